-- The epoch of a partition. KEYS: epoch, log, seq. Answers nothing if it isn't initialised, or if rooms
-- were numbered and their log is gone: somebody deleted it.
if redis.call('EXISTS', KEYS[2]) == 0 and redis.call('EXISTS', KEYS[3]) == 1 then return false end
return redis.call('GET', KEYS[1])
