-- Closes a room for good, once: it takes no more messages.
-- KEYS: epoch, log, seq, head, closed
-- ARGV: room, envelope of room_closed
-- Answer: 1 closed now, 0 it was closed before, -1 there is no such room
if redis.call('EXISTS', KEYS[1]) == 0 or deleted(KEYS[2], KEYS[3]) then
  return redis.error_reply('NOTINIT the partition is not initialised')
end
local seq = redis.call('HGET', KEYS[3], ARGV[1])
if not seq then return -1 end
if redis.call('SADD', KEYS[5], ARGV[1]) == 0 then return 0 end
local id = redis.call('XADD', KEYS[2], '*', 'r', ARGV[1], 's', seq, 'k', 'e', 'e', ARGV[2])
redis.call('HSET', KEYS[4], ARGV[1], id)
return 1
