-- Notes who has the connection of a device: edge and connection, and its generation, higher than any before.
-- KEYS: device. ARGV: edge and connection, life in ms. Answers the generation, and what was noted before.
local before = redis.call('GET', KEYS[1])
local time = redis.call('TIME')
local generation = tonumber(time[1]) * 1000000 + tonumber(time[2])
-- Redis' clock may have been set back.
local last = tonumber(string.match(before or '', '(%d+)$') or 0)
generation = string.format('%.0f', math.max(generation, last + 1))
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. generation, 'PX', ARGV[2])
return { generation, before }
