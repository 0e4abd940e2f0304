-- Take users out of one reach log, and fence the partition's owner so that it reads its tables again.
-- KEYS: the log, the partition's meta hash, the lengths of its keys. ARGV: the erasure, entries of a row from which on it is an estimate, the
-- entry of the lengths that has the size of the pane, the log's cube, then hashes of 4 bytes.
-- Returns how many entries were taken out.
local log = redis.call('GET', KEYS[1])
if not log then
  return 0
end
-- Before anything is written: should it have become something else, nothing is done.
local lengths = redis.call('HMGET', KEYS[3], ARGV[3], 'cubes')
local gone, at = {}, {}
for i = 5, #ARGV do
  local place = log:find(ARGV[i], 1, true)
  while place do
    if place % 8 == 1 and not gone[place] then
      gone[place] = true
      at[#at + 1] = place
    end
    place = log:find(ARGV[i], place + 1, true)
  end
end
if #at == 0 then
  return 0
end
-- A row that is an estimate keeps its length, else what is left of it would be taken for an exact count: another entry of the row takes
-- the place. A row that is counted exactly becomes shorter.
local cut = {}
for _, place in ipairs(at) do
  local row = log:sub(place + 4, place + 7)
  local entries, neighbour = 0, nil
  local found = log:find(row, 1, true)
  while found and not (entries >= tonumber(ARGV[2]) and neighbour) do
    if found % 8 == 5 then
      entries = entries + 1
      if not gone[found - 4] then
        neighbour = log:sub(found - 4, found + 3)
      end
    end
    found = log:find(row, found + 1, true)
  end
  if entries >= tonumber(ARGV[2]) and neighbour then
    redis.call('SETRANGE', KEYS[1], place - 1, neighbour)
  else
    cut[#cut + 1] = place
  end
end
if #cut > 0 then
  table.sort(cut)
  log = redis.call('GET', KEYS[1])
  local left, from = {}, 1
  for _, place in ipairs(cut) do
    left[#left + 1] = log:sub(from, place - 1)
    from = place + 8
  end
  left[#left + 1] = log:sub(from)
  local whole = table.concat(left)
  if #whole > 0 then
    redis.call('SET', KEYS[1], whole, 'KEEPTTL')
  else
    redis.call('DEL', KEYS[1])
  end
  -- Logs of cubes that the settings have no more are in no size.
  if lengths[1] and lengths[2] and (' ' .. lengths[2] .. ' '):find(' ' .. ARGV[4] .. ' ', 1, true) then
    redis.call('HINCRBY', KEYS[3], ARGV[3], -8 * #cut)
  end
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('HSET', KEYS[2], 'writer', ARGV[1])
end
return #at
