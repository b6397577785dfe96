-- Removes a group of a partition with everything that is kept for it, unless a worker owns it.
-- KEYS: lease, log, checkpoints, owed, redeliver stream, attempts, delivered. ARGV: group.
-- Answers 1; 0 if a worker owns it: then nothing was done.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('XGROUP', 'DESTROY', KEYS[2], ARGV[1]) end
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
redis.call('HDEL', KEYS[7], ARGV[1])
redis.call('DEL', KEYS[5], KEYS[6])
return 1
