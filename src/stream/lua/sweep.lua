-- Ends the stays whose time to come back is over, and those of edges that are gone.
-- KEYS: epoch, log, seq, head, members, edges, leaving, then the members of each gone edge
-- ARGV: debounce in ms, steps at most, then the name of each gone edge
-- Answer: the number of steps done
if redis.call('EXISTS', KEYS[1]) == 0 or deleted(KEYS[2], KEYS[3]) then
  return redis.error_reply('NOTINIT the partition is not initialised')
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local most, done = tonumber(ARGV[2]), 0

local function left(user)
  local head = #user < 32 and string.char(0xa0 + #user) or string.char(0xd9, #user)
  return '\148\001\169user_left' .. head .. user .. '\192'
end

for i, stay in ipairs(redis.call('ZRANGEBYSCORE', KEYS[7], '-inf', now, 'LIMIT', 0, most)) do
  done = done + 1
  redis.call('ZREM', KEYS[7], stay)
  if redis.call('HEXISTS', KEYS[5], stay) == 0 then
    local room, user = string.match(stay, '^([^%z]*)%z(.*)$')
    local seq = redis.call('HGET', KEYS[3], room)
    local id = redis.call('XADD', KEYS[2], '*', 'r', room, 's', seq or '0', 'k', 'e', 'e', left(user))
    redis.call('HSET', KEYS[4], room, id)
  end
end

for i = 3, #ARGV do
  local key = KEYS[5 + i]
  local cursor = '0'
  repeat
    -- The whole table, if need be: one that was emptied from its front gives nothing for long.
    local found = redis.call('HSCAN', key, cursor, 'COUNT', math.max(most - done, 1))
    cursor = found[1]
    for j = 1, #found[2], 2 do
      local member = found[2][j]
      done = done + redis.call('HDEL', key, member)
      local stay = string.match(member, '^([^%z]*%z[^%z]*)%z')
      if redis.call('HINCRBY', KEYS[5], stay, -1) <= 0 then
        redis.call('HDEL', KEYS[5], stay)
        redis.call('ZADD', KEYS[7], now + tonumber(ARGV[1]), stay)
      end
    end
  until cursor == '0' or done >= most
  if redis.call('EXISTS', key) == 0 then
    redis.call('SREM', KEYS[6], ARGV[i])
  end
end
return done
