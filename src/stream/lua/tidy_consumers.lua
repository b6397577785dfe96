-- Removes a group's consumers that have nothing pending, but the one that asks.
-- KEYS: stream. ARGV: group, consumer that stays. Answers how many.
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then return 0 end
local removed = 0
for _, consumer in ipairs(consumers) do
  local fields = {}
  for at = 1, #consumer, 2 do fields[consumer[at]] = consumer[at + 1] end
  if fields['pending'] == 0 and fields['name'] ~= ARGV[2] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], fields['name'])
    removed = removed + 1
  end
end
return removed
