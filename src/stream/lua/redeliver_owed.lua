-- Copies entries that a wiped log owes a group, and says how far it came, in one step.
-- KEYS: owed, redeliver stream. ARGV: group, range as it was read, range that is left or '',
-- then five per entry: its id, room, seq, kind, envelope.
-- Answers 0 and does nothing if another owner came first.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
for at = 4, #ARGV, 5 do
  redis.call('XADD', KEYS[2], '*', 'i', ARGV[at], 'r', ARGV[at + 1], 's', ARGV[at + 2], 'k', ARGV[at + 3],
    'e', ARGV[at + 4])
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1
