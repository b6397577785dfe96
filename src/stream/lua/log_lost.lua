-- Takes the epoch from a partition whose log ends before an entry that somebody has seen in it: it has
-- lost its last writes, and has to be compared with the archive before anything is numbered again.
-- KEYS: epoch, log. ARGV: the epoch in which the entry was seen, its id. Answers 1 if it was taken.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if not less(last_given(KEYS[2]), ARGV[2]) then return 0 end
redis.call('DEL', KEYS[1])
return 1
