-- What a partition says of its groups, seen at one moment.
-- KEYS: epoch, log, seq, checkpoints, owed. Answers nothing if the partition isn't initialised, else
-- checkpoints (group, id …), owed (group, range …) and the names of the log's groups.
if redis.call('EXISTS', KEYS[1]) == 0 or deleted(KEYS[2], KEYS[3]) then return false end
local names = {}
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[2])
if not groups.err then
  for _, group in ipairs(groups) do
    for at = 1, #group, 2 do
      if group[at] == 'name' then names[#names + 1] = group[at + 1] end
    end
  end
end
return { redis.call('HGETALL', KEYS[4]), redis.call('HGETALL', KEYS[5]), names }
