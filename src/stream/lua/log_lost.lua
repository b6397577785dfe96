-- Takes the epoch from a partition whose log ends before an entry that somebody has seen in it: it has
-- lost its last writes, and has to be compared with the archive before anything is numbered again.
-- KEYS: epoch, log. ARGV: the epoch in which the entry was seen, its id. Answers 1 if it was taken.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local function less(a, b)
  local a_ms, a_n = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_n = string.match(b, '(%d+)-(%d+)')
  a_ms, a_n, b_ms, b_n = tonumber(a_ms), tonumber(a_n), tonumber(b_ms), tonumber(b_n)
  return a_ms < b_ms or (a_ms == b_ms and a_n < b_n)
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[2])
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' and not less(info[at + 1], ARGV[2]) then return 0 end
  end
end
redis.call('DEL', KEYS[1])
return 1
