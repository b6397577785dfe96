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
