-- Has a group read again from where its owner has read to, if it stands further on.
-- KEYS: lease, stream. ARGV: lease prefix, group, id that was read to.
-- Answers -1 if the lease is not ours, 0 if the group didn't stand further on, 1 if it was moved.
local lease = redis.call('GET', KEYS[1])
if not lease or string.sub(lease, 1, #ARGV[1]) ~= ARGV[1] then return -1 end
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[2])
if not groups.err then
  for _, group in ipairs(groups) do
    local fields = {}
    for at = 1, #group, 2 do fields[group[at]] = group[at + 1] end
    if fields['name'] == ARGV[2] then
      if not less(ARGV[3], fields['last-delivered-id']) then return 0 end
      redis.call('XGROUP', 'SETID', KEYS[2], ARGV[2], ARGV[3])
      return 1
    end
  end
end
return redis.error_reply('NOGROUP the group is gone')
