-- Forgets who has the connection of a device, if that is who asks. Its generation stays for a while.
-- KEYS: device. ARGV: edge and connection, life of the generation in ms.
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 1, #ARGV[1] + 1) ~= ARGV[1] .. ' ' then return 0 end
redis.call('SET', KEYS[1], string.sub(held, #ARGV[1] + 2), 'PX', ARGV[2])
return 1
