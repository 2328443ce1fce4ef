-- One atomic look at channels.
-- KEYS: meta, doubts, then pointer and stream of each channel
-- ARGV: candidate epoch, entries per channel at most, bytes of all entries at most, bytes of one message at
--       most, pointer_ttl_s, refresh (1: prolong pointers that are used), where a channel's name begins in its
--       pointer's, then per channel the seq to read after (-: read none)
-- Returns {epoch, seq, serial of the doubts, {pointer or false, {message, ...}, 'first until' or false}, ...}.
-- What does not fit the bounds is left out: whoever follows `prev` sees the hole.
local epoch, seq = begin(KEYS[1], ARGV[1])
local at = string.format('%.0f', seq)
local count, left, message_max = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local ttl_s, refresh, name_at = tonumber(ARGV[5]), ARGV[6] == '1', tonumber(ARGV[7])
local doubts = redis.call('HMGET', KEYS[2], '@', '#', '*')
local doubted = doubts[1] == epoch

local function read(stream, after)
  local found, from, wanted = {}, after + 1, count
  while wanted > 0 and left > 0 do
    local page = redis.pcall('XRANGE', stream, string.format('%.0f', from), '+', 'COUNT', math.min(wanted, 100))
    if page.err or #page == 0 then
      break
    end
    for _, entry in ipairs(page) do
      local message = entry[2][2]
      if entry[2][1] == 'm' and #message <= message_max then
        left = left - #message
        if left < 0 then
          return found
        end
        found[#found + 1] = message
      end
      from = tonumber(string.match(entry[1], '^(%d+)-')) + 1
    end
    wanted = wanted - #page
  end
  return found
end

local everywhere = doubts[3] and tonumber(string.match(doubts[3], '(%d+)$')) or -1

local function doubt(name, after)
  if not doubted or after == '-' then
    return false
  end
  return tonumber(after) <= everywhere and doubts[3] or redis.call('HGET', KEYS[2], name)
end

local answer = {epoch, at, doubted and doubts[2] or '0'}
for index = 3, #KEYS, 2 do
  local pointer, after = redis.pcall('GET', KEYS[index]), ARGV[6 + (index + 1) / 2]
  local last = type(pointer) == 'string' and tonumber(pointer) or nil
  local entries = {}
  if not last or last > seq then
    redis.call('SET', KEYS[index], at, 'EX', ttl_s)
    pointer = false
  else
    if refresh and redis.call('TTL', KEYS[index]) < ttl_s / 2 then
      redis.call('EXPIRE', KEYS[index], ttl_s)
    end
    if after ~= '-' and last > tonumber(after) then
      entries = read(KEYS[index + 1], tonumber(after))
    end
  end
  answer[#answer + 1] = {pointer, entries, doubt(string.sub(KEYS[index], name_at), after)}
end
return answer
