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
local low, page = string.format('%.0f', from), nil
if ARGV[7] == '1' then
  page = redis.pcall('XREVRANGE', KEYS[2], '+', low, 'COUNT', count)
else
  page = redis.pcall('XRANGE', KEYS[2], low, '+', 'COUNT', count)
end
local found = {}
if not page.err then
  for _, entry in ipairs(page) do
    local message = entry[2][2]
    if entry[2][1] == 'm' and #message <= message_max then
      left = left - #message
      if left < 0 then
        break
      end
      found[#found + 1] = message
    end
  end
end
return {epoch, string.format('%.0f', seq), found}
