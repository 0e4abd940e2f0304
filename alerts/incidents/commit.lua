-- Writes a tick's incidents and what is to be told about them, all or nothing, if and only if the caller still leads and Redis still holds
-- what the caller went by. Returns 1 when it is written, 0 when another leads, -1 when Redis holds something else.
-- KEYS: lease, incidents, states, outbox, commits
-- ARGV: lease token, name of the commit that the caller went by ("" for none), name of this one, outbox limit, number of told changes,
--       then for each: id, seq, change JSON; then id and state JSON of every touched incident; then, behind a "-", ids of incidents to forget
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local newest = redis.call('GET', KEYS[5]) or ''
-- The client may send a command again whose answer it did not get.
if newest == ARGV[3] then return 1 end
if newest ~= ARGV[2] then return -1 end
redis.call('SET', KEYS[5], ARGV[3])
local at = 6
for _ = 1, tonumber(ARGV[5]) do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 2])
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[4], '*', 'incident_id', ARGV[at], 'seq', ARGV[at + 1], 'change', ARGV[at + 2])
  at = at + 3
end
while ARGV[at] ~= '-' do
  redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1])
  at = at + 2
end
for i = at + 1, #ARGV do
  redis.call('HDEL', KEYS[2], ARGV[i])
  redis.call('HDEL', KEYS[3], ARGV[i])
end
return 1
