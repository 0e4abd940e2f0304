-- Become the writer of a topic-partition. KEYS[1] the partition's meta hash, KEYS[2] the lengths of its keys.
-- ARGV: writer, start offset if this is the first claim, now (ms), form in which the writer writes tables.
-- Returns the meta hash as it was, with what a first claim sets; false when the tables have been superseded by newer ones.
-- Tables in a newer form are left alone: the hash says so, and their writer stays who it is.
if redis.call('HEXISTS', KEYS[1], 'superseded') == 1 then return false end
if redis.call('HSETNX', KEYS[1], 'start_offset', ARGV[2]) == 1 then
  redis.call('HSET', KEYS[1], 'applied_offset', '-1', 'applied_at', ARGV[3], 'format', ARGV[4])
  redis.call('HSETNX', KEYS[2], 'form', ARGV[4])
end
local found = redis.call('HGETALL', KEYS[1])
if tonumber(redis.call('HGET', KEYS[1], 'format') or '1') <= tonumber(ARGV[4]) then
  redis.call('HSET', KEYS[1], 'writer', ARGV[1])
end
return found
