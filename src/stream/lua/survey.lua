-- Where a partition's log and some of its rooms stand, at one moment.
-- KEYS: epoch, log, seq, head; ARGV: rooms
-- Answer: epoch, length, last id ever given, first id or nil, seqs, heads. No epoch: the partition isn't
-- initialised, or its log was deleted.
local length, last, first = 0, '0-0', false
if redis.call('EXISTS', KEYS[2]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[2])
  for i = 1, #info, 2 do
    if info[i] == 'length' then
      length = info[i + 1]
    elseif info[i] == 'last-generated-id' then
      last = info[i + 1]
    elseif info[i] == 'first-entry' and info[i + 1] then
      first = info[i + 1][1]
    end
  end
end
local epoch = redis.call('GET', KEYS[1])
if deleted(KEYS[2], KEYS[3]) then epoch = false end
local seqs, heads = {}, {}
if #ARGV > 0 then
  seqs = redis.call('HMGET', KEYS[3], unpack(ARGV))
  heads = redis.call('HMGET', KEYS[4], unpack(ARGV))
end
return { epoch, length, last, first, seqs, heads }
