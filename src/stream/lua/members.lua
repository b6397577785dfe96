-- Joins, leaves and ends of connections in the rooms of one partition, as one edge saw them, in order.
-- KEYS: epoch, log, seq, head, closed, members, members of the edge, edges, leaving
-- ARGV: edge, debounce in ms, number of entries that the edge knows to be in the log, epoch and id of each, then five
--       per step: what (j join, l leave, d end of the connection),
--       room, user, connection, envelope of the event (user_joined for j, user_left for l)
-- Answer: one number per step: 1 counted, 0 nothing new, -1 the room is closed
-- Repeating a step changes nothing: a connection is counted by its name.
if redis.call('EXISTS', KEYS[1]) == 0 or deleted(KEYS[2], KEYS[3]) then
  return redis.error_reply('NOTINIT the partition is not initialised')
end
local first = 4 + 2 * tonumber(ARGV[3])
if has_lost(KEYS[1], KEYS[2], 4, first - 1) then
  return redis.error_reply('NOTINIT the log has lost its last entries')
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function event(room, envelope)
  local seq = redis.call('HGET', KEYS[3], room)
  local id = redis.call('XADD', KEYS[2], '*', 'r', room, 's', seq or '0', 'k', 'e', 'e', envelope)
  redis.call('HSET', KEYS[4], room, id)
end

local function created(user)
  local head = #user < 32 and string.char(0xa0 + #user) or string.char(0xd9, #user)
  return '\148\001\172room_created' .. head .. user .. '\192'
end

local answers = {}
for i = first, #ARGV, 5 do
  local what, room, user, connection = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local stay = room .. '\000' .. user
  local member = stay .. '\000' .. connection
  local answer = 0
  if what == 'j' then
    if redis.call('SISMEMBER', KEYS[5], room) == 1 then
      answer = -1
    elseif redis.call('HSETNX', KEYS[7], member, now) == 1 then
      answer = 1
      redis.call('SADD', KEYS[8], ARGV[1])
      if redis.call('HSETNX', KEYS[3], room, 0) == 1 then
        event(room, created(user))
      end
      if redis.call('HINCRBY', KEYS[6], stay, 1) == 1 and redis.call('ZREM', KEYS[9], stay) == 0 then
        event(room, ARGV[i + 4])
      end
    end
  elseif redis.call('HDEL', KEYS[7], member) == 1 then
    answer = 1
    if redis.call('HINCRBY', KEYS[6], stay, -1) <= 0 then
      redis.call('HDEL', KEYS[6], stay)
      if what == 'l' then
        event(room, ARGV[i + 4])
      else
        redis.call('ZADD', KEYS[9], now + tonumber(ARGV[2]), stay)
      end
    end
  end
  answers[#answers + 1] = answer
end
return answers
