-- What stands before a script that says so (`script!`): here once, not in each.

-- Whether an id of a stream comes before another.
local function less(a, b)
  local a_ms, a_n = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_n = string.match(b, '(%d+)-(%d+)')
  a_ms, a_n, b_ms, b_n = tonumber(a_ms), tonumber(a_n), tonumber(b_ms), tonumber(b_n)
  return a_ms < b_ms or (a_ms == b_ms and a_n < b_n)
end

-- Whether rooms are numbered and their log is gone: somebody deleted it, and the archive has to be asked
-- before it goes on.
local function deleted(log, seq)
  return redis.call('EXISTS', log) == 0 and redis.call('EXISTS', seq) == 1
end

-- The last id that a log has ever given; without a log none was: it is as one that ends at its beginning.
local function last_given(log)
  local info = redis.call('EXISTS', log) == 1 and redis.call('XINFO', 'STREAM', log) or {}
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' then return info[at + 1] end
  end
  return '0-0'
end

-- Whether a log ends before an entry that the caller knows to be in it. Arguments from `first` to `last`: epoch and id
-- of each such entry. The log of a replica that was promoted without the last writes, or of a backup, does: it must be
-- compared with the archive before numbers are given again, and before what is appended hides where it ended. So the
-- partition is not initialised any more.
local function has_lost(epoch, log, first, last)
  local now = redis.call('GET', epoch)
  for at = first, last, 2 do
    local seen = ARGV[at + 1]
    if now == ARGV[at] and #redis.call('XREVRANGE', log, '+', seen, 'COUNT', 1) == 0
      and less(last_given(log), seen) then
      redis.call('DEL', epoch)
      return true
    end
  end
  return false
end
