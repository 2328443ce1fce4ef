-- Remember that cursors in some ranges say too much for a channel (PROTOCOL.md section 7).
-- KEYS: meta, doubts
-- ARGV: candidate epoch, the epoch of the ranges, channels at most, news (1: every node is to hear of it), then
--       channel, first seq and last seq of each range
-- One range per channel: two become the one that spans them. More channels than the bound become one range for
-- every channel, from the beginning. So it widens, and never forgets, until a new epoch begins.
local epoch = begin(KEYS[1], ARGV[1])
if epoch ~= ARGV[2] then
  return 0
end
if redis.call('HGET', KEYS[2], '@') ~= epoch then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], '@', epoch, '#', '0')
end

local function widen(name, first, last)
  local known = redis.call('HGET', KEYS[2], name)
  if known then
    local from, to = string.match(known, '^(%d+) (%d+)$')
    first, last = math.min(first, tonumber(from)), math.max(last, tonumber(to))
  end
  redis.call('HSET', KEYS[2], name, string.format('%.0f %.0f', first, last))
end

for index = 5, #ARGV, 3 do
  widen(ARGV[index], tonumber(ARGV[index + 1]), tonumber(ARGV[index + 2]))
end
if redis.call('HLEN', KEYS[2]) - 2 - redis.call('HEXISTS', KEYS[2], '*') > tonumber(ARGV[3]) then
  local all, last = redis.call('HGETALL', KEYS[2]), 0
  for index = 1, #all, 2 do
    local to = string.match(all[index + 1], '^%d+ (%d+)$')
    if to then
      last = math.max(last, tonumber(to))
    end
  end
  local serial = redis.call('HGET', KEYS[2], '#')
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], '@', epoch, '#', serial, '*', string.format('0 %.0f', last))
end
if ARGV[4] == '1' then
  redis.call('HINCRBY', KEYS[2], '#', 1)
end
return 1
