-- Remember that cursors say too much for some channels, and send that to every node in the same step (PROTOCOL.md
-- section 7).
-- KEYS: meta, doubts
-- ARGV: candidate epoch, the epoch of the doubts, channels at most, PUBLISH or in a cluster SPUBLISH, then channel and
--       first doubted seq of each doubt
-- Every doubt reaches up to the present seq: a client may have taken its cursor to another node, and received newer
-- publications there. The doubts take the next seq. A node that processes the message has delivered nothing later, so
-- no client receives a later cursor before the doubt.
-- One range per channel: two become the one that spans them. More channels than the bound become one range for
-- every channel, from the beginning. So it widens, and never forgets, until a new epoch begins.
-- The message: '<epoch> <serial> <seq> <channel> <first> <channel> <first> ...'.
local epoch, last = begin(KEYS[1], ARGV[1])
if epoch ~= ARGV[2] then
  return 0
end
local at = redis.call('HINCRBY', KEYS[1], 'seq', 1)
if redis.call('HGET', KEYS[2], '@') ~= epoch then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], '@', epoch, '#', '0')
end

local message = {}
for index = 5, #ARGV, 2 do
  local name, first = ARGV[index], tonumber(ARGV[index + 1])
  message[#message + 1] = string.format('%s %.0f', name, first)
  local known = redis.call('HGET', KEYS[2], name)
  if known then
    first = math.min(first, tonumber(string.match(known, '^(%d+) ')))
  end
  redis.call('HSET', KEYS[2], name, string.format('%.0f %.0f', first, last))
end
if redis.call('HLEN', KEYS[2]) - 2 - redis.call('HEXISTS', KEYS[2], '*') > tonumber(ARGV[3]) then
  local serial = redis.call('HGET', KEYS[2], '#')
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], '@', epoch, '#', serial, '*', string.format('0 %.0f', last))
end
local serial = redis.call('HINCRBY', KEYS[2], '#', 1)
redis.call(ARGV[4], KEYS[2], string.format('%s %.0f %.0f %s', epoch, serial, at, table.concat(message, ' ')))
return 1
