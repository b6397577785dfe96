-- Makes a partition's groups where they were, lets its log go on after what was archived, and only
-- then says that it is initialised.
-- KEYS: epoch, log, checkpoints, owed. ARGV: new epoch or '' (only raise the log), id that the log goes on after,
-- id up to which the archive holds everything, then two per group: name, checkpoint.
-- Answers 1, or 0 if the partition was initialised already.
local function less(a, b)
  local a_ms, a_n = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_n = string.match(b, '(%d+)-(%d+)')
  a_ms, a_n, b_ms, b_n = tonumber(a_ms), tonumber(a_n), tonumber(b_ms), tonumber(b_n)
  return a_ms < b_ms or (a_ms == b_ms and a_n < b_n)
end
if ARGV[1] ~= '' and redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local empty = redis.call('XLEN', KEYS[2]) == 0
for at = 4, #ARGV, 2 do
  local group, checkpoint = ARGV[at], ARGV[at + 1]
  -- It may be there already: a worker that missed it made it again.
  redis.pcall('XGROUP', 'CREATE', KEYS[2], group, checkpoint, 'MKSTREAM')
  redis.call('HSETNX', KEYS[3], group, checkpoint)
  -- What the group had not settled and the log lost is copied from the archive later.
  if empty and less(checkpoint, ARGV[3]) then
    redis.call('HSETNX', KEYS[4], group, checkpoint .. ' ' .. ARGV[3])
  end
end
local info = redis.call('XINFO', 'STREAM', KEYS[2])
for at = 1, #info, 2 do
  if info[at] == 'last-generated-id' and less(info[at + 1], ARGV[2]) then
    redis.call('XSETID', KEYS[2], ARGV[2])
  end
end
if ARGV[1] ~= '' then redis.call('SET', KEYS[1], ARGV[1]) end
return 1
