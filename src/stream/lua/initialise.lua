-- Makes a partition's groups where they were, lets its log go on after what was archived, and only
-- then says that it is initialised.
-- KEYS: epoch, log, seq, checkpoints, owed. ARGV: new epoch, id that the log goes on after,
-- id up to which the archive holds everything, id before which the log's remains are in the archive too,
-- then two per group: name, checkpoint.
-- Answers 1, or 0 if the partition was initialised already.
-- A log that was deleted takes what its epoch said with it.
if redis.call('EXISTS', KEYS[1]) == 1 and not deleted(KEYS[2], KEYS[3]) then return 0 end
local last = last_given(KEYS[2])
-- A log that lost only its end goes on after a hole, which the archive fills: what comes before the hole
-- and is archived too goes, so that everything before the log is read from there.
if less(last, ARGV[3]) then redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[4]) end
-- What the log still has of its own is read from there, and the rest of what was archived is owed.
local lost = less(last, ARGV[3]) or redis.call('XLEN', KEYS[2]) == 0
for at = 5, #ARGV, 2 do
  local group, checkpoint = ARGV[at], ARGV[at + 1]
  -- It may be there already: a worker that missed it made it again.
  redis.pcall('XGROUP', 'CREATE', KEYS[2], group, checkpoint, 'MKSTREAM')
  redis.call('HSETNX', KEYS[4], group, checkpoint)
  -- What the group had not settled and the log lost is copied from the archive later.
  if lost and less(checkpoint, ARGV[3]) then
    -- Of an earlier loss there may be something left to copy: it begins there.
    local owed = redis.call('HGET', KEYS[5], group)
    local after = owed and string.match(owed, '^%S+') or checkpoint
    redis.call('HSET', KEYS[5], group, after .. ' ' .. ARGV[3])
  end
end
if less(last, ARGV[2]) then redis.call('XSETID', KEYS[2], ARGV[2]) end
redis.call('SET', KEYS[1], ARGV[1])
return 1
