-- Puts rooms back where the archive left them; what is there and further on stays.
-- KEYS: seq, head, closed. ARGV: four per room: name, last seq, id of its last entry, closed (1/0).
for at = 1, #ARGV, 4 do
  local room, seq, head = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local there = redis.call('HGET', KEYS[1], room)
  if not there or tonumber(there) < tonumber(seq) then redis.call('HSET', KEYS[1], room, seq) end
  there = redis.call('HGET', KEYS[2], room)
  if not there or less(there, head) then redis.call('HSET', KEYS[2], room, head) end
  if ARGV[at + 3] == '1' then redis.call('SADD', KEYS[3], room) end
end
return #ARGV / 4
