-- What every living node last said of itself.
-- KEYS: nodestats
-- ARGV: the node that writes (empty: none), its lease in ms (0: it ends), its record
-- Returns the records whose lease holds; the others are removed.
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[1] ~= '' then
  if ARGV[2] == '0' then
    redis.call('HDEL', KEYS[1], ARGV[1])
  else
    redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now_ms + tonumber(ARGV[2])) .. ARGV[3])
  end
end
local found, all = {}, redis.call('HGETALL', KEYS[1])
for index = 1, #all, 2 do
  local until_ms, record = string.match(all[index + 1], '^(%d+) (.*)$')
  if until_ms and tonumber(until_ms) > now_ms then
    found[#found + 1] = record
  else
    redis.call('HDEL', KEYS[1], all[index])
  end
end
return found
