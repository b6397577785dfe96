-- Releases a lease that is ours. KEYS: lease. ARGV: its prefix. Answers 1, or 0 if it isn't ours.
local lease = redis.call('GET', KEYS[1])
if not lease or string.sub(lease, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
