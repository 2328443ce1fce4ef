-- Who is in a channel, without those whose nodes are all dead.
-- KEYS: meta. The others lie in meta's slot.
-- ARGV: candidate epoch, base of all keys, channel, its namespace, users at most
-- Returns {epoch, seq, count, {user, info, ...}}, without the last where there are more users.
local epoch, seq = begin(KEYS[1], ARGV[1])
local base, limit = ARGV[2] .. 'presence', tonumber(ARGV[5])
local namespaces = base .. ':namespaces'
if redis.call('EXISTS', base) == 0 then
  return redis.error_reply('NORULES no hub has told this broker who is where')
end
if redis.call('SISMEMBER', namespaces, ARGV[4]) == 0 and redis.call('SISMEMBER', namespaces, '*') == 0 then
  return redis.error_reply('NOPRESENCE ' .. ARGV[4])
end
local clock = redis.call('TIME')
local now_ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local at, key = string.format('%.0f', seq), base .. ':of:' .. ARGV[3]
local count = redis.call('HLEN', key)
local dead = redis.call('SCARD', base .. ':ended') + redis.call('ZCOUNT', base .. ':leases', '-inf', now_ms) > 0
if count > limit and not dead then
  return {epoch, at, count}
end

local known = {}
local function lives(nodes)
  if known[nodes] == nil then
    known[nodes] = false
    for node in string.gmatch(nodes, '[^,]+') do
      known[nodes] = known[nodes] or (tonumber(redis.call('ZSCORE', base .. ':leases', node) or '') or 0) > now_ms
    end
  end
  return known[nodes]
end

local entries, kept = redis.call('HGETALL', key), 0
for index = 1, #entries, 2 do
  local value = entries[index + 1]
  local space = string.find(value, ' ', 1, true)
  if space and (not dead or lives(string.sub(value, 1, space - 1))) then
    entries[kept + 1], entries[kept + 2] = entries[index], string.sub(value, space + 1)
    kept = kept + 2
  end
end
for index = #entries, kept + 1, -1 do
  entries[index] = nil
end
count = kept / 2
if count > limit then
  return {epoch, at, count}
end
return {epoch, at, count, entries}
