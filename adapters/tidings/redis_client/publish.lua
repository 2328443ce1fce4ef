-- Number, store and publish bodies.
-- KEYS: meta, rules, and for each body: stream, pointer, idempotency
-- ARGV: candidate epoch, pointer_ttl_s (if the rules have none), PUBLISH or in a cluster SPUBLISH, and for each body:
--       namespace, pub/sub channel, body, idempotency_s
-- Returns a line for each body: '+<cursor>', '=<first cursor>' for a repeated id, or '-<error>'.
-- An error of the script means that nothing was stored or published. A later error fails its own body only.
local count = (#KEYS - 2) / 3
local pointer_ttl_s, publish = ARGV[2], ARGV[3]
local lines, rules, read_keys = {}, {}, {}
for i = 1, count do
  local namespace = ARGV[4 * i]
  local rule = rules[namespace]
  if rule == nil then
    local fields = redis.call('HMGET', KEYS[2], namespace, '*', ':pointer_ttl_s')
    pointer_ttl_s = tonumber(fields[3] or '') or pointer_ttl_s
    rule = fields[1] or fields[2]
    if rule then
      local history, history_ttl_s = string.match(rule, '^(%d+) (%d+)$')
      rule = {history ~= '0' and history, history_ttl_s}
    elseif redis.call('EXISTS', KEYS[2]) == 0 then
      return redis.error_reply('NORULES no hub has started on this broker yet')
    end
    rules[namespace] = rule
  end
  if not rule then
    lines[i] = '-UNKNOWNNAMESPACE ' .. namespace
  end
  read_keys[2 * i - 1], read_keys[2 * i] = KEYS[3 * i + 1], KEYS[3 * i + 2]
end
local epoch, last = begin(KEYS[1], ARGV[1])
local stored = redis.call('MGET', unpack(read_keys))
local numbers, prevs, first_index, channel_ends, newest, horizon_seq = {}, {}, {}, {}, last, nil

-- The `prev` of a publication whose channel has no pointer: nothing was published in the channel since then. If a
-- stream shows that the pointer was lost, or nothing is proven, it is the publication before, of any channel: a
-- possible gap.
local function prev_without_pointer(stream, number)
  if horizon_seq == nil then
    horizon_seq = horizon(KEYS[1], epoch) or false
  end
  return horizon_seq and not has_lost_pointer(stream) and horizon_seq or number - 1
end

for i = 1, count do
  local pointer, id = KEYS[3 * i + 1], KEYS[3 * i + 2]
  local idempotent = tonumber(ARGV[4 * i + 3]) > 0
  if idempotent and not lines[i] and stored[2 * i] then
    lines[i] = '=' .. stored[2 * i]
  elseif not lines[i] and not (idempotent and first_index[id]) then
    newest = newest + 1
    numbers[i] = newest
    local prev = channel_ends[pointer] or tonumber(stored[2 * i - 1] or '')
    if not prev and not stored[2 * i - 1] then
      prev = prev_without_pointer(KEYS[3 * i], newest)
    end
    -- If the pointer belongs to another sequence, the past is unknown: a possible gap.
    prevs[i] = prev and prev < newest and prev or newest - 1
    channel_ends[pointer] = newest
    if idempotent then
      first_index[id] = i
    end
  end
end
if newest > last then
  redis.call('HINCRBY', KEYS[1], 'seq', newest - last)
  -- Before the first of them is stored: if one fails, its channel shows a possible gap.
  for pointer, number in pairs(channel_ends) do
    redis.call('SET', pointer, string.format('%.0f', number), 'EX', pointer_ttl_s)
  end
end
-- Redis reserves 4 KiB for the first node of a stream. A copy takes only the size of its entries, and grows with them.
-- If an ACL forbids to copy or to rename, the stream stays as it is.
local function create(stream, id, message)
  local copy = KEYS[1] .. ':copy'
  redis.call('XADD', stream, id, 'm', message)
  if redis.pcall('COPY', stream, copy, 'REPLACE') == 1 and redis.pcall('RENAME', copy, stream).err then
    redis.call('DEL', copy)
  end
end

local expires = {}
local function put(i)
  local seq = string.format('%.0f', numbers[i])
  local message = 't1 ' .. seq .. ' ' .. string.format('%.0f', prevs[i]) .. ' ' .. epoch .. ' ' .. ARGV[4 * i + 2]
  local stream, rule = KEYS[3 * i], rules[ARGV[4 * i]]
  if rule[1] then
    local id = seq .. '-0'
    local added = redis.pcall('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', rule[1], id, 'm', message)
    if not added then
      create(stream, id, message)
      expires[stream] = nil
    elseif type(added) == 'table' and added.err then
      -- The stream belongs to a sequence that was further ahead, or is no stream. Its content is void.
      redis.call('DEL', stream)
      create(stream, id, message)
      expires[stream] = nil
    end
    if not expires[stream] then
      redis.call('EXPIRE', stream, rule[2])
      expires[stream] = true
    end
  end
  local cursor = epoch .. '.' .. seq
  -- After the publication is stored, so that no id refers to one that was not.
  if tonumber(ARGV[4 * i + 3]) > 0 then
    redis.call('SET', KEYS[3 * i + 2], cursor, 'EX', ARGV[4 * i + 3])
  end
  redis.call(publish, ARGV[4 * i + 1], message)
  return '+' .. cursor
end
for i = 1, count do
  if numbers[i] then
    local is_done, line = pcall(put, i)
    if not is_done then
      -- Remove all of it. Otherwise a retry would count as a duplicate.
      redis.pcall('XDEL', KEYS[3 * i], string.format('%.0f', numbers[i]) .. '-0')
      redis.pcall('DEL', KEYS[3 * i + 2])
      -- The error is a table since Redis 7, before that a string.
      line = '-' .. string.gsub(type(line) == 'table' and line.err or tostring(line), '%c', ' ')
    end
    lines[i] = line
  elseif not lines[i] then
    lines[i] = string.gsub(lines[first_index[KEYS[3 * i + 2]]], '^%+', '=')
  end
end
return table.concat(lines, '\n')
