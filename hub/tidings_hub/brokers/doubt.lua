-- Store ranges of doubted cursors, and send them to every node in the same step (PROTOCOL.md sections 1 and 7).
-- KEYS: meta, doubts
-- ARGV: candidate epoch, epoch of the doubts, maximum of channels, maximum of ranges per channel, PUBLISH or in a
--       cluster SPUBLISH, then for each doubt the channel and the first doubted seq
-- Every range ends at the current seq, because a client may have taken its cursor to another node, and received newer
-- publications there. The message takes the next seq. A node that processes it has delivered nothing later, so no
-- client receives a later cursor before the doubt.
-- The field of a channel has the span of its ranges, from the first doubted seq to the last one. If there are several,
-- the field '/<channel>' has them, and the span begins with one more zero. Version 0.1 reads the span only. What it
-- writes has no such zero, so the ranges count no longer.
-- Ranges that overlap or are adjacent become one, as do the two oldest ones beyond the maximum per channel. Beyond the
-- maximum of channels, a channel has its span only, then one range for every channel replaces them. So ranges grow until
-- a new epoch begins, and none is forgotten.
-- The message: '<epoch> <serial number> <seq> <channel> <first> <channel> <first> ...'.
local epoch, last = begin(KEYS[1], ARGV[1])
if epoch ~= ARGV[2] then
  return 0
end
local channels_max, ranges_max = tonumber(ARGV[3]), tonumber(ARGV[4])
local message_seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
if redis.call('HGET', KEYS[2], '@') ~= epoch then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], '@', epoch, '#', '0')
end

-- The ranges of a channel, oldest first: {first, last, first, last, ...}.
local function ranges_of(name)
  local stored = redis.call('HGET', KEYS[2], name) or ''
  local listed = string.match(stored, '^0%d') and redis.call('HGET', KEYS[2], '/' .. name) or stored
  local ranges = {}
  for first, until_seq in string.gmatch(listed, '(%d+) (%d+)') do
    ranges[#ranges + 1], ranges[#ranges + 2] = tonumber(first), tonumber(until_seq)
  end
  return ranges
end

-- Add the range from `first` to the current seq. No other range ends later.
local function add(ranges, first)
  local until_seq = math.max(first, last)
  while #ranges > 0 and ranges[#ranges] >= first - 1 do
    until_seq = math.max(until_seq, table.remove(ranges))
    first = math.min(first, table.remove(ranges))
  end
  ranges[#ranges + 1], ranges[#ranges + 2] = first, until_seq
  if #ranges > 2 * ranges_max then
    table.remove(ranges, 2)
    table.remove(ranges, 2)
  end
end

-- Fields of single channels: their spans, and their ranges.
local function count_fields()
  local others = redis.call('HEXISTS', KEYS[2], '*') + redis.call('HEXISTS', KEYS[2], '/*')
  return redis.call('HLEN', KEYS[2]) - 2 - others
end

local function store(name, ranges)
  local span, field = string.format('%.0f %.0f', ranges[1], ranges[#ranges]), '/' .. name
  if #ranges == 2 then
    redis.call('HDEL', KEYS[2], field)
  elseif name == '*' or redis.call('HEXISTS', KEYS[2], field) == 1 or count_fields() < channels_max then
    local numbers = {}
    for index, number in ipairs(ranges) do
      numbers[index] = string.format('%.0f', number)
    end
    redis.call('HSET', KEYS[2], field, table.concat(numbers, ' '))
    span = '0' .. span
  end
  redis.call('HSET', KEYS[2], name, span)
end

-- Keep the spans only. If there are too many, one range for all channels replaces them.
local function widen()
  local fields, names, channels, first = redis.call('HGETALL', KEYS[2]), {}, 0, last
  for index = 1, #fields, 2 do
    local name = fields[index]
    if string.sub(name, 1, 1) == '/' then
      names[#names + 1] = name ~= '/*' and name or nil
    elseif name ~= '@' and name ~= '#' and name ~= '*' then
      channels, first = channels + 1, math.min(first, tonumber(string.match(fields[index + 1], '^%d+')) or 0)
    end
  end
  if channels <= channels_max then
    for _, name in ipairs(names) do
      redis.call('HDEL', KEYS[2], name)
    end
    return
  end
  local ranges, serial = ranges_of('*'), redis.call('HGET', KEYS[2], '#')
  add(ranges, first)
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], '@', epoch, '#', serial)
  store('*', ranges)
end

local message = {}
for index = 6, #ARGV, 2 do
  local name, first = ARGV[index], tonumber(ARGV[index + 1])
  message[#message + 1] = string.format('%s %.0f', name, first)
  local ranges = ranges_of(name)
  add(ranges, first)
  store(name, ranges)
end
if count_fields() > channels_max then
  widen()
end
local serial = redis.call('HINCRBY', KEYS[2], '#', 1)
redis.call(ARGV[5], KEYS[2], string.format('%s %.0f %.0f %s', epoch, serial, message_seq, table.concat(message, ' ')))
return 1
