-- Copies a dead letter's entry for its group, once.
-- KEYS: mark of the letter, redeliver stream. ARGV: life of the mark in ms, fields and values of the copy.
-- Answers 1 if it was copied now, 0 if it had been.
if not redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1]) then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
return 1
