-- Where a partition's log and some of its rooms stand, at one moment.
-- KEYS: epoch, log, seq, head; ARGV: id of an entry that the caller has of the log, or nothing; rooms
-- Answer: epoch, length, last id ever given, first id or nil, whether the log has the entry, seqs, heads. No epoch: the partition isn't
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
if #ARGV > 1 then
  seqs = redis.call('HMGET', KEYS[3], unpack(ARGV, 2))
  heads = redis.call('HMGET', KEYS[4], unpack(ARGV, 2))
end
local has = ARGV[1] == '' and 0 or #redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])
return { epoch, length, last, first, has, seqs, heads }
