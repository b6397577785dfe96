-- The epoch of a partition. KEYS: epoch, log, seq. Answers nothing if it isn't initialised, or if rooms
-- were numbered and their log is gone: somebody deleted it.
if deleted(KEYS[2], KEYS[3]) then return false end
return redis.call('GET', KEYS[1])
