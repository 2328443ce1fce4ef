-- Read the pointers, missed publications and doubts of channels in one atomic step.
-- KEYS: meta, doubts, then pointer and stream of each channel
-- ARGV: candidate epoch, maximum of entries per channel, of bytes of all entries, and of bytes of one message,
--       pointer_ttl_s, refresh (1: extend the lifetime of pointers), position of a channel's name in the name of its
--       pointer, maximum of bytes of all entries of one channel (-: none), then for each channel the seq to read
--       after (-: read no entries)
-- Returns {epoch, seq, serial number of the doubts, {pointer, {message, ...}, doubts or false}, ...}.
-- For a missing pointer it returns '-<seq>': nothing was published in the channel after that (horizon.lua). It writes
-- no key for it, so that channels without publications take no memory. In three cases the pointer counts as lost, and
-- the script writes one with the current seq: the channel has a stream, the pointer belongs to a sequence that was
-- further ahead, or Redis evicts keys.
-- Without a maximum per channel, the script reads the oldest entries. It leaves out what exceeds the maxima, and `prev`
-- shows the gap. With a maximum per channel it reads the newest entries, newest first, so that one read serves several
-- clients. `false` in place of the messages means that the maximum for all channels was reached: before any entry of
-- this one, if the oldest are read.
local epoch, seq = begin(KEYS[1], ARGV[1])
local seq_text = string.format('%.0f', seq)
local count, left_bytes, message_max_bytes = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local ttl_s, refresh, name_at = tonumber(ARGV[5]), ARGV[6] == '1', tonumber(ARGV[7])
local channel_max_bytes = tonumber(ARGV[8])
local doubts = redis.call('HMGET', KEYS[2], '@', '#', '*')
local are_doubts_valid = doubts[1] == epoch

local function read(stream, after)
  local messages, from, entries_left = {}, after + 1, count
  while entries_left > 0 and left_bytes > 0 do
    local page = redis.pcall('XRANGE', stream, string.format('%.0f', from), '+', 'COUNT', math.min(entries_left, 100))
    if page.err or #page == 0 then
      break
    end
    for _, entry in ipairs(page) do
      local message = entry[2][2]
      if entry[2][1] == 'm' and #message <= message_max_bytes then
        left_bytes = left_bytes - #message
        if left_bytes < 0 then
          return #messages > 0 and messages
        end
        messages[#messages + 1] = message
      end
      from = tonumber(string.match(entry[1], '^(%d+)-')) + 1
    end
    entries_left = entries_left - #page
  end
  return (#messages > 0 or left_bytes > 0) and messages
end

local function read_newest(stream, after)
  local messages, until_seq, entries_left, channel_left_bytes = {}, '+', count, channel_max_bytes
  local from = string.format('%.0f', after + 1)
  while entries_left > 0 do
    local page = redis.pcall('XREVRANGE', stream, until_seq, from, 'COUNT', math.min(entries_left, 100))
    if page.err or #page == 0 then
      break
    end
    for _, entry in ipairs(page) do
      local message = entry[2][2]
      if entry[2][1] == 'm' and #message <= message_max_bytes then
        channel_left_bytes = channel_left_bytes - #message
        if channel_left_bytes < 0 then
          return messages
        end
        left_bytes = left_bytes - #message
        if left_bytes < 0 then
          return false
        end
        messages[#messages + 1] = message
      end
      until_seq = string.format('%.0f', tonumber(string.match(entry[1], '^(%d+)-')) - 1)
    end
    entries_left = entries_left - #page
  end
  return messages
end

-- The last doubted seq of all channels.
local everywhere_last = doubts[3] and tonumber(string.match(doubts[3], '(%d+)$')) or -1

local everywhere_ranges = doubts[3] and redis.call('HGET', KEYS[2], '/*') or false

-- The fields with the doubts of a channel (doubt.lua): span and ranges of its own, then those of all channels. A client
-- that reads after a later seq than `after` may share the read, so it returns all ranges from there on.
local function doubts_of(name, after)
  if not are_doubts_valid or after == '-' then
    return false
  end
  local own = redis.call('HMGET', KEYS[2], name, '/' .. name)
  local concerns_all = tonumber(after) <= everywhere_last
  if not own[1] and not concerns_all then
    return false
  end
  return {own[1], own[2], concerns_all and doubts[3], concerns_all and everywhere_ranges}
end

-- Read the marks of the horizon. Add one if the last one is older than a sixteenth of the lifetime of pointers.
local marks
local function keep_marks()
  marks = read_marks(KEYS[1], epoch)
  local step_ms, last = marks.life_ms / 16, marks[#marks]
  local until_ms = marks.clock_ms + marks.life_ms - step_ms
  if marks.evicts then
    redis.call('HDEL', KEYS[1], 'marks')
  elseif step_ms > 0 and not (last and last[2] > until_ms - step_ms) then
    marks[#marks + 1] = {seq_text, until_ms}
    local parts = {epoch}
    for _, mark in ipairs(marks) do
      parts[#parts + 1] = string.format('%s %.0f', mark[1], mark[2])
    end
    redis.call('HSET', KEYS[1], 'marks', table.concat(parts, ' '))
  end
end

-- The result for a channel whose pointer is missing, or whose `value` is unusable.
local function without_pointer(pointer, value, stream)
  if not marks then
    keep_marks()
  end
  if marks[1] and not value and not has_lost_pointer(stream) then
    return '-' .. marks[1][1]
  end
  redis.call('SET', pointer, seq_text, 'EX', ttl_s)
  return '-' .. seq_text
end

if #KEYS == 2 then
  keep_marks()
end
local results = {epoch, seq_text, are_doubts_valid and doubts[2] or '0'}
for index = 3, #KEYS, 2 do
  local pointer, after = redis.pcall('GET', KEYS[index]), ARGV[7 + (index + 1) / 2]
  local last = type(pointer) == 'string' and tonumber(pointer) or nil
  local entries = {}
  if not last or last > seq then
    pointer = without_pointer(KEYS[index], pointer, KEYS[index + 1])
  else
    if refresh and redis.call('TTL', KEYS[index]) < ttl_s / 2 then
      redis.call('EXPIRE', KEYS[index], ttl_s)
    end
    if after ~= '-' and last > tonumber(after) then
      entries = (channel_max_bytes and read_newest or read)(KEYS[index + 1], tonumber(after))
    end
  end
  results[#results + 1] = {pointer, entries, doubts_of(string.sub(KEYS[index], name_at), after)}
end
return results
