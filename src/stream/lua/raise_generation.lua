-- Raises the generation of a device, so that its next connection has a higher one; who has the device stays.
-- KEYS: device. ARGV: the generation to reach, life in ms. Answers 1, or 0 if it was that high.
local held = redis.call('GET', KEYS[1]) or ''
local last = tonumber(string.match(held, '(%d+)$') or 0)
if last >= tonumber(ARGV[1]) then return 0 end
-- Edge and connection, if anybody has it, and a space.
local holder = string.match(held, '^(.* )%d+$') or ''
redis.call('SET', KEYS[1], holder .. ARGV[1], 'PX', ARGV[2])
return 1
