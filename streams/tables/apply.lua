-- One flush of a topic-partition: every command, or none when the writer is not the owner at the offset it believes in.
-- KEYS[1] the partition's meta hash, and on a cluster the others that the commands name: while their slot is moved to another server, Redis
-- then refuses the whole script, and not a command in the middle of it.
-- ARGV: expected applied offset, new applied offset, writer, msgpack list of commands, the erasure of users that the flush heeds ('' before
-- the first).
-- Returns 'applied'; 'fenced:WRITER:OFFSET' with what Redis holds instead; or 'unheeded:ERASURE' where that is all that is in the way.
local held = redis.call('HMGET', KEYS[1], 'writer', 'applied_offset', 'erasure')
if held[1] ~= ARGV[3] or held[2] ~= ARGV[1] then
  if held[1] == ARGV[3] and held[2] == ARGV[2] and ARGV[1] ~= ARGV[2] then
    return 'applied' -- an earlier try of this very flush went through and its answer was lost
  end
  return 'fenced:' .. tostring(held[1]) .. ':' .. tostring(held[2])
end
if (held[3] or '') ~= ARGV[5] then
  return 'unheeded:' .. (held[3] or '')
end
for _, command in ipairs(cmsgpack.unpack(ARGV[4])) do
  redis.call(unpack(command))
end
return 'applied'
