-- Says that a worker lives, forgets those that were not heard of for a while, answers the others.
-- KEYS: workers. ARGV: worker, how long one counts as alive in ms. Times are Redis' own.
local now = redis.call('TIME')
local ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', ms), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', ms - tonumber(ARGV[2])))
return redis.call('ZRANGE', KEYS[1], 0, -1)
