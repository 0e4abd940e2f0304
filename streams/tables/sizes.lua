-- How large panes are and how large their owner left them, both in one step: nothing is written between the one and the other.
-- KEYS: the lengths of keys, then of each pane its hash and its sketches. ARGV: the cubes over which the sketches are named, then what each
-- pane is called among the lengths.
-- Returns for each pane the fields of its hash and the bytes of its sketches, added (-1 where a key is of another type), and what is kept of
-- that (nil where nothing is, or over other cubes).
local names = {unpack(ARGV, 2)}
local each = (#KEYS - 1) / #names
local kept = redis.call('HMGET', KEYS[1], 'cubes', unpack(names))
local answers = {}
for i = 1, #names do
  local size, first = 0, 2 + (i - 1) * each
  for k = first, first + each - 1 do
    local length = redis.pcall(k == first and 'HLEN' or 'STRLEN', KEYS[k])
    if type(length) == 'table' then
      size = -1
      break
    end
    size = size + length
  end
  answers[2 * i - 1] = size
  answers[2 * i] = kept[1] == ARGV[1] and kept[i + 1]
end
return answers
