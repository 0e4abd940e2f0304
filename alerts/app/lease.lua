-- KEYS: lease, fence    ARGV: what to do, name or token, milliseconds
-- Every term of leadership gets a token that no other ever had, so that a leader which was thought dead is told apart.
local held = redis.call('GET', KEYS[1])
if ARGV[1] == 'acquire' then
  if held then return false end
  local token = redis.call('INCR', KEYS[2]) .. ':' .. ARGV[2]
  redis.call('SET', KEYS[1], token, 'PX', ARGV[3])
  return token
end
if held ~= ARGV[2] then return 0 end
if ARGV[1] == 'renew' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('DEL', KEYS[1])
end
return 1
