-- Removes the entries of a log before an id.
-- KEYS: log, checkpoints, archive's lease. ARGV: first id that stays, lease prefix or '', force (1/0).
-- Answers how many were removed; -1 if the lease is not ours; -2 if a group still needs what would go.
if ARGV[2] ~= '' then
  local lease = redis.call('GET', KEYS[3])
  if not lease or string.sub(lease, 1, #ARGV[2]) ~= ARGV[2] then return -1 end
end
if ARGV[3] ~= '1' then
  -- The plan may be old: what holds now is asked again here, where nothing can come in between.
  local there = {}
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
  if groups.err then return 0 end
  for _, group in ipairs(groups) do
    local fields = {}
    for at = 1, #group, 2 do fields[group[at]] = group[at + 1] end
    there[fields['name']] = true
    if less(fields['last-delivered-id'], ARGV[1]) then return -2 end
    local pending = redis.call('XPENDING', KEYS[1], fields['name'])
    if pending[1] > 0 and less(pending[2], ARGV[1]) then return -2 end
  end
  -- A group that was lost is made again at its checkpoint.
  local checkpoints = redis.call('HGETALL', KEYS[2])
  for at = 1, #checkpoints, 2 do
    if not there[checkpoints[at]] and less(checkpoints[at + 1], ARGV[1]) then return -2 end
  end
end
return redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[1])
