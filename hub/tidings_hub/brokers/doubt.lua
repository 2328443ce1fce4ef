-- Store ranges of doubted cursors, and send them to every node in the same step (PROTOCOL.md sections 1 and 7).
-- KEYS: meta, doubts
-- ARGV: candidate epoch, epoch of the doubts, maximum of channels, PUBLISH or in a cluster SPUBLISH, then for each
--       doubt the channel and the first doubted seq
-- Every range ends at the current seq, because a client may have taken its cursor to another node, and received newer
-- publications there. The message takes the next seq. A node that processes it has delivered nothing later, so no
-- client receives a later cursor before the doubt.
-- A channel has one range: a second one extends it. Beyond the maximum of channels, one range for every channel, from
-- the first seq on, replaces them. So ranges grow until a new epoch begins, and none is forgotten.
-- The message: '<epoch> <serial number> <seq> <channel> <first> <channel> <first> ...'.
local epoch, last = begin(KEYS[1], ARGV[1])
if epoch ~= ARGV[2] then
  return 0
end
local message_seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
if redis.call('HGET', KEYS[2], '@') ~= epoch then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], '@', epoch, '#', '0')
end

local message = {}
for index = 5, #ARGV, 2 do
  local name, first = ARGV[index], tonumber(ARGV[index + 1])
  message[#message + 1] = string.format('%s %.0f', name, first)
  local stored = redis.call('HGET', KEYS[2], name)
  if stored then
    first = math.min(first, tonumber(string.match(stored, '^(%d+) ')))
  end
  redis.call('HSET', KEYS[2], name, string.format('%.0f %.0f', first, last))
end
if redis.call('HLEN', KEYS[2]) - 2 - redis.call('HEXISTS', KEYS[2], '*') > tonumber(ARGV[3]) then
  local serial = redis.call('HGET', KEYS[2], '#')
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], '@', epoch, '#', serial, '*', string.format('0 %.0f', last))
end
local serial = redis.call('HINCRBY', KEYS[2], '#', 1)
redis.call(ARGV[4], KEYS[2], string.format('%s %.0f %.0f %s', epoch, serial, message_seq, table.concat(message, ' ')))
return 1
