-- Makes a group of a partition's log, and the log if it is gone.
-- KEYS: epoch, log, seq. ARGV: group, id after which it begins. Answers 1, or 0 if the group was there.
-- A log that somebody deleted is made anew only as one that is not initialised: what it lost has to
-- be found in the archive first.
if deleted(KEYS[2], KEYS[3]) then redis.call('DEL', KEYS[1]) end
local made = redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[1], ARGV[2], 'MKSTREAM')
if made.err then
  if string.find(made.err, 'BUSYGROUP', 1, true) then return 0 end
  return made
end
return 1
