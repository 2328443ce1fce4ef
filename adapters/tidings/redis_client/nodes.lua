-- Write the record of a node, and read those of all living nodes.
-- KEYS: nodestats
-- ARGV: the node that writes (empty: none), its lease in ms (0: it stops), its record
-- Returns the records whose lease has not ended. The others are removed.
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[1] ~= '' then
  if ARGV[2] == '0' then
    redis.call('HDEL', KEYS[1], ARGV[1])
  else
    redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now_ms + tonumber(ARGV[2])) .. ARGV[3])
  end
end
local records, entries = {}, redis.call('HGETALL', KEYS[1])
for index = 1, #entries, 2 do
  local end_ms, record = string.match(entries[index + 1], '^(%d+) (.*)$')
  if end_ms and tonumber(end_ms) > now_ms then
    records[#records + 1] = record
  else
    redis.call('HDEL', KEYS[1], entries[index])
  end
end
return records
