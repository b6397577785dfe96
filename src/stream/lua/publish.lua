-- Accepts messages of one partition, all in one atomic step.
-- KEYS: epoch, log, seq, head, closed, then the memory of each device
-- ARGV: number of devices, life of a memory in ms, number of entries that the caller knows to be in the log,
--       then the user of each device, then epoch and id of each of those entries,
--       then four per message: device (1…), room, mark (16 bytes of cid, 8 of content, 8 of the
--       generation of its connection, 0 without one), envelope
-- Answer: epoch, and 25 bytes per message: code, ms, n, seq
--   codes: 0 stored, 1 known already, 2 the cid was used for something else, 3 the room is closed,
--   4 a newer connection of the device has stored something: its generation in place of ms
local RECORD = 48
local KEPT = 64
-- In a memory's first record in place of a cid: there follows the newest generation that has stored something.
local HEADER = string.rep('\000', 16)
local NOTHING = string.rep('\000', 24)
local epoch = redis.call('GET', KEYS[1])
if not epoch or deleted(KEYS[2], KEYS[3]) then
  return redis.error_reply('NOTINIT the partition is not initialised')
end
local devices, entries = tonumber(ARGV[1]), tonumber(ARGV[3])
local first = 4 + devices + 2 * entries

if has_lost(KEYS[1], KEYS[2], 4 + devices, first - 1) then
  return redis.error_reply('NOTINIT the log has lost its last entries')
end

local rooms, known = {}, {}
for i = first, #ARGV, 4 do
  local room = ARGV[i + 1]
  if not known[room] then
    known[room] = true
    rooms[#rooms + 1] = room
  end
end
local seqs, heads = {}, {}
local stored = redis.call('HMGET', KEYS[3], unpack(rooms))
for i, room in ipairs(rooms) do
  seqs[room] = stored[i] and tonumber(stored[i]) or -1
end
local closed = {}
if redis.call('EXISTS', KEYS[5]) == 1 then
  for _, room in ipairs(rooms) do
    closed[room] = redis.call('SISMEMBER', KEYS[5], room) == 1
  end
end

local function remembered(memory, cid)
  local at = string.find(memory, cid, 1, true)
  while at and (at - 1) % RECORD ~= 0 do
    at = string.find(memory, cid, at + 1, true)
  end
  return at and string.sub(memory, at, at + RECORD - 1)
end

-- room_created: [1, "room_created", user, nil] in MessagePack; a user has 64 bytes at most.
local function created(user)
  local head = #user < 32 and string.char(0xa0 + #user) or string.char(0xd9, #user)
  return '\148\001\172room_created' .. head .. user .. '\192'
end

local memories, fresh, added, repeated = {}, {}, {}, {}
-- By device: whether its memory has a header, the generation there, and the newest of this call.
local headed, before, newest = {}, {}, {}
local answers = {}
for i = first, #ARGV, 4 do
  local device, room, mark = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
  if not memories[device] then
    memories[device] = redis.call('GET', KEYS[5 + device]) or ''
    fresh[device], added[device] = {}, {}
    headed[device] = string.sub(memories[device], 1, 16) == HEADER
    before[device] = headed[device] and struct.unpack('>I8', string.sub(memories[device], 17, 24)) or 0
    newest[device] = before[device]
  end
  local cid, generation = string.sub(mark, 1, 16), struct.unpack('>I8', string.sub(mark, 25, 32))
  local record = fresh[device][cid] or remembered(memories[device], cid)
  if record then
    if string.sub(record, 17, 24) == string.sub(mark, 17, 24) then
      answers[#answers + 1] = '\001' .. string.sub(record, 25)
      repeated[device] = true
    else
      answers[#answers + 1] = '\002' .. NOTHING
    end
  elseif closed[room] then
    answers[#answers + 1] = '\003' .. NOTHING
  elseif generation > 0 and generation < newest[device] then
    answers[#answers + 1] = '\004' .. struct.pack('>I8I8I8', newest[device], 0, 0)
  else
    newest[device] = math.max(newest[device], generation)
    local seq = seqs[room]
    if seq < 0 then
      seq = 0
      if string.sub(room, 1, 1) ~= '@' then
        redis.call('XADD', KEYS[2], '*', 'r', room, 's', '0', 'k', 'e', 'e', created(ARGV[3 + device]))
      end
    end
    seq = seq + 1
    local id = redis.call('XADD', KEYS[2], '*', 'r', room, 's', seq, 'k', 'm', 'e', ARGV[i + 3])
    seqs[room], heads[room] = seq, id
    local ms, n = string.match(id, '^(%d+)-(%d+)$')
    local place = struct.pack('>I8I8I8', tonumber(ms), tonumber(n), seq)
    local new_record = string.sub(mark, 1, 24) .. place
    fresh[device][cid] = new_record
    local list = added[device]
    list[#list + 1] = new_record
    answers[#answers + 1] = '\000' .. place
  end
end

local new_seqs, new_heads = {}, {}
for room, id in pairs(heads) do
  local at = #new_seqs
  new_seqs[at + 1], new_seqs[at + 2] = room, seqs[room]
  new_heads[at + 1], new_heads[at + 2] = room, id
end
if #new_seqs > 0 then
  redis.call('HSET', KEYS[3], unpack(new_seqs))
  redis.call('HSET', KEYS[4], unpack(new_heads))
end
-- A memory grows by appending and is cut at twice its size, so that a message costs the
-- append-only file one record and not the whole memory.
for device, list in pairs(added) do
  if #list > 0 then
    local memory, more = memories[device], table.concat(list)
    local key = KEYS[5 + device]
    -- All of this call stays, however many they are: the caller may have to repeat it.
    local kept = math.max(KEPT, #list) * RECORD
    local generation = struct.pack('>I8', newest[device])
    -- Messages that come without a connection alone need no header.
    local wants_header = newest[device] > 0
    if #memory + #more > 2 * kept or (wants_header and not headed[device]) then
      local header = wants_header and HEADER .. generation .. NOTHING or ''
      redis.call('SET', key, header .. string.sub(memory .. more, -kept), 'PX', ARGV[2])
    else
      redis.call('APPEND', key, more)
      if newest[device] > before[device] then redis.call('SETRANGE', key, 16, generation) end
      -- Renewed when a tenth of it is over, not each time: that would double what is written.
      if redis.call('PTTL', key) < tonumber(ARGV[2]) * 0.9 then
        redis.call('PEXPIRE', key, ARGV[2])
      end
    end
  end
end
-- A repeat writes too: WAIT behind it asks for what its own connection wrote last (Valkey 8), and
-- the connection that wrote the message may be gone.
for device in pairs(repeated) do
  redis.call('PEXPIRE', KEYS[5 + device], ARGV[2])
end
return { epoch, table.concat(answers) }
