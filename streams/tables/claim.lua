-- Become the writer of a topic-partition. KEYS[1] the partition's meta hash.
-- ARGV: writer, start offset if this is the first claim, now (ms), form of the tables if this is the first claim.
-- Returns the meta hash as it was, with what a first claim sets; false when the tables have been superseded by newer ones.
if redis.call('HEXISTS', KEYS[1], 'superseded') == 1 then return false end
if redis.call('HSETNX', KEYS[1], 'start_offset', ARGV[2]) == 1 then
  redis.call('HSET', KEYS[1], 'applied_offset', '-1', 'applied_at', ARGV[3], 'format', ARGV[4])
end
local found = redis.call('HGETALL', KEYS[1])
redis.call('HSET', KEYS[1], 'writer', ARGV[1])
return found
