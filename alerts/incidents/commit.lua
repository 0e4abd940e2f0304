-- Writes a tick's incidents and what is to be told about them, all or nothing, if and only if the caller still leads.
-- KEYS: lease, incidents, states, outbox
-- ARGV: lease token, outbox limit, number of told changes, then for each: id, seq, change JSON;
--       then id and state JSON of every touched incident; then, behind a "-", ids of incidents to forget
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local at = 4
for _ = 1, tonumber(ARGV[3]) do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 2])
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[2], '*', 'incident_id', ARGV[at], 'seq', ARGV[at + 1], 'change', ARGV[at + 2])
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
