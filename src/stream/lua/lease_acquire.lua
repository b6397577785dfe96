-- Takes a lease that is free, or that we hold by an answer that got lost.
-- KEYS: lease, its token. ARGV: worker, ttl in ms. Answers the token, or 0 if another holds it.
local lease = redis.call('GET', KEYS[1])
if lease and string.match(lease, '^%d+ (.*)$') ~= ARGV[1] then return 0 end
local token = redis.call('INCR', KEYS[2])
-- After a wipe the counter begins at 1 again; with the clock in it, no token comes twice.
local now = redis.call('TIME')
local floor = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
if token < floor then
  token = floor
  redis.call('SET', KEYS[2], string.format('%.0f', token))
end
redis.call('SET', KEYS[1], string.format('%.0f', token) .. ' ' .. ARGV[1], 'PX', ARGV[2])
return token
