-- Copies a page of entries that a group is to have again, and says how far the job came, in one step.
-- KEYS: position of the job, redeliver stream. ARGV: position as it was read or '', the new one,
-- life of the position in ms, then five per entry: its id, room, seq, kind, envelope.
-- Answers 0 and does nothing if the job stands elsewhere: an answer was lost, or another runs it too.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
for at = 4, #ARGV, 5 do
  redis.call('XADD', KEYS[2], '*', 'i', ARGV[at], 'r', ARGV[at + 1], 's', ARGV[at + 2], 'k', ARGV[at + 3],
    'e', ARGV[at + 4])
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
