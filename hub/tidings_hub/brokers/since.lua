-- One atomic look at channels.
-- KEYS: meta, doubts, then pointer and stream of each channel
-- ARGV: candidate epoch, entries per channel at most, bytes of all entries at most, bytes of one message at
--       most, pointer_ttl_s, refresh (1: prolong pointers that are used), where a channel's name begins in its
--       pointer's, bytes of all entries of one channel at most (-: no such bound), then per channel the seq to read
--       after (-: read none)
-- Returns {epoch, seq, serial of the doubts, {pointer, {message, ...}, 'first until' or false}, ...}.
-- Instead of a missing pointer: '-<seq>', after which nothing was published in the channel (horizon.lua). Nothing is
-- written for it, so that channels without publications cost no memory. Three cases are written down at the present
-- seq, as a pointer that was lost: a stream without one, one of a sequence that went further, and any, where Redis
-- evicts keys.
-- Without a bound per channel the oldest entries are read. What does not fit the bounds is left out: `prev` shows the
-- hole. With a bound per channel the newest ones are read, newest first, so that one read serves several clients. false
-- instead of the messages means that the bound for all channels was reached.
local epoch, seq = begin(KEYS[1], ARGV[1])
local at = string.format('%.0f', seq)
local count, left, message_max = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local ttl_s, refresh, name_at = tonumber(ARGV[5]), ARGV[6] == '1', tonumber(ARGV[7])
local channel_max = tonumber(ARGV[8])
local doubts = redis.call('HMGET', KEYS[2], '@', '#', '*')
local doubted = doubts[1] == epoch

local function read(stream, after)
  local messages, from, entries_left = {}, after + 1, count
  while entries_left > 0 and left > 0 do
    local page = redis.pcall('XRANGE', stream, string.format('%.0f', from), '+', 'COUNT', math.min(entries_left, 100))
    if page.err or #page == 0 then
      break
    end
    for _, entry in ipairs(page) do
      local message = entry[2][2]
      if entry[2][1] == 'm' and #message <= message_max then
        left = left - #message
        if left < 0 then
          return messages
        end
        messages[#messages + 1] = message
      end
      from = tonumber(string.match(entry[1], '^(%d+)-')) + 1
    end
    entries_left = entries_left - #page
  end
  return messages
end

local function read_newest(stream, after)
  local messages, until_seq, entries_left, channel_left = {}, '+', count, channel_max
  local from = string.format('%.0f', after + 1)
  while entries_left > 0 do
    local page = redis.pcall('XREVRANGE', stream, until_seq, from, 'COUNT', math.min(entries_left, 100))
    if page.err or #page == 0 then
      break
    end
    for _, entry in ipairs(page) do
      local message = entry[2][2]
      if entry[2][1] == 'm' and #message <= message_max then
        channel_left = channel_left - #message
        if channel_left < 0 then
          return messages
        end
        left = left - #message
        if left < 0 then
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

local everywhere = doubts[3] and tonumber(string.match(doubts[3], '(%d+)$')) or -1

-- A client that reads after a later seq than `after` may share the read. So where both a doubt of the channel and one
-- of all channels exist, the range covers both.
local function doubt(name, after)
  if not doubted or after == '-' then
    return false
  end
  local own = redis.call('HGET', KEYS[2], name)
  if tonumber(after) > everywhere then
    return own
  end
  if not own then
    return doubts[3]
  end
  local first, last = string.match(own, '^(%d+) (%d+)$')
  local all_first = tonumber(string.match(doubts[3], '^(%d+)'))
  local from, to = math.min(tonumber(first) or 0, all_first), math.max(tonumber(last) or 0, everywhere)
  return string.format('%.0f %.0f', from, to)
end

-- The marks of the horizon, with a new one if the last is older than a sixteenth of the pointers' life.
local marks
local function keep_marks()
  marks = read_marks(KEYS[1], epoch)
  local step_ms, last = marks.life_ms / 16, marks[#marks]
  local until_ms = marks.clock_ms + marks.life_ms - step_ms
  if marks.evicts then
    redis.call('HDEL', KEYS[1], 'marks')
  elseif step_ms > 0 and not (last and last[2] > until_ms - step_ms) then
    marks[#marks + 1] = {at, until_ms}
    local parts = {epoch}
    for _, mark in ipairs(marks) do
      parts[#parts + 1] = string.format('%s %.0f', mark[1], mark[2])
    end
    redis.call('HSET', KEYS[1], 'marks', table.concat(parts, ' '))
  end
end

-- What is known of a channel whose pointer is missing, or `value` is of no use.
local function without_pointer(pointer, value, stream)
  if not marks then
    keep_marks()
  end
  if marks[1] and not value and not has_lost_pointer(stream) then
    return '-' .. marks[1][1]
  end
  redis.call('SET', pointer, at, 'EX', ttl_s)
  return '-' .. at
end

if #KEYS == 2 then
  keep_marks()
end
local answer = {epoch, at, doubted and doubts[2] or '0'}
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
      entries = (channel_max and read_newest or read)(KEYS[index + 1], tonumber(after))
    end
  end
  answer[#answer + 1] = {pointer, entries, doubt(string.sub(KEYS[index], name_at), after)}
end
return answer
