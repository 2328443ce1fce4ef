-- A page of one channel's stream.
-- KEYS: meta, stream
-- ARGV: candidate epoch, entries at most, bytes of all entries at most, bytes of one message at most,
--       the seq to read after, its epoch (empty: any), newest (1: the last entries, newest first)
-- Returns {epoch, seq, {message, ...}}.
local epoch, seq = begin(KEYS[1], ARGV[1])
local count, left, message_max = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local from = tonumber(ARGV[5]) + 1
if ARGV[6] ~= '' and ARGV[6] ~= epoch then
  from = 1
end
local low, high, is_newest, messages = string.format('%.0f', from), '+', ARGV[7] == '1', {}
-- In steps: 1,000 entries can have 64 MB, of which only the first few are returned.
while count > 0 and left > 0 do
  local step, page = math.min(count, 100), nil
  if is_newest then
    page = redis.pcall('XREVRANGE', KEYS[2], high, low, 'COUNT', step)
  else
    page = redis.pcall('XRANGE', KEYS[2], low, high, 'COUNT', step)
  end
  if page.err or #page == 0 then
    break
  end
  for _, entry in ipairs(page) do
    local message = entry[2][2]
    if entry[2][1] == 'm' and #message <= message_max then
      left = left - #message
      if left < 0 then
        break
      end
      messages[#messages + 1] = message
    end
  end
  local last = tonumber(string.match(page[#page][1], '^(%d+)-'))
  if is_newest then
    high = string.format('%.0f', last - 1)
  else
    low = string.format('%.0f', last + 1)
  end
  count = count - #page
end
return {epoch, string.format('%.0f', seq), messages}
