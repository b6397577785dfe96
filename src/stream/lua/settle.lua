-- Acknowledges entries and moves the checkpoint, if the lease is still ours.
-- KEYS: lease, stream, checkpoints, delivered. ARGV: lease prefix, group, checkpoint or '',
-- what becomes of the entries (0 keep, 1 delete, 2 delete, and the stream with the last),
-- id up to which the owner was given everything or '', ids.
-- Answers how many were pending; -1 if the lease is not ours.
local lease = redis.call('GET', KEYS[1])
if not lease or string.sub(lease, 1, #ARGV[1]) ~= ARGV[1] then return -1 end
local group, checkpoint, delete = ARGV[2], ARGV[3], ARGV[4] ~= '0'
local acked = 0
-- Lua's unpack has a limit of some thousands.
for first = 6, #ARGV, 1000 do
  local last = math.min(first + 999, #ARGV)
  acked = acked + redis.call('XACK', KEYS[2], group, unpack(ARGV, first, last))
  if delete then redis.call('XDEL', KEYS[2], unpack(ARGV, first, last)) end
end
if ARGV[4] == '2' and redis.call('XLEN', KEYS[2]) == 0 then redis.call('DEL', KEYS[2]) end
-- In one step with what is acknowledged: nothing acknowledged comes after it.
if ARGV[5] ~= '' then redis.call('HSET', KEYS[4], group, ARGV[5]) end
if checkpoint ~= '' then
  -- Whatever we believe: what Redis still holds pending is not settled.
  local pending = redis.pcall('XPENDING', KEYS[2], group)
  local safe = true
  if not pending.err and pending[1] > 0 then
    safe = less(checkpoint, pending[2])
  end
  if safe then redis.call('HSET', KEYS[3], group, checkpoint) end
end
return acked
