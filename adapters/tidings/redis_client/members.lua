-- The members of a channel, without users all of whose nodes are dead.
-- KEYS: meta. The other keys are in the same slot.
-- ARGV: candidate epoch, prefix of all keys, channel, its namespace, users at most
-- Returns {epoch, seq, count, {user, info, ...}}, without the last element if there are more users.
local epoch, seq = begin(KEYS[1], ARGV[1])
local base, limit = ARGV[2] .. 'presence', tonumber(ARGV[5])
local namespaces = base .. ':namespaces'
if redis.call('EXISTS', base) == 0 then
  return redis.error_reply('NORULES no hub has stored members on this broker yet')
end
if redis.call('SISMEMBER', namespaces, ARGV[4]) == 0 and redis.call('SISMEMBER', namespaces, '*') == 0 then
  return redis.error_reply('NOPRESENCE ' .. ARGV[4])
end
local clock = redis.call('TIME')
local now_ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local seq_text, key = string.format('%.0f', seq), base .. ':of:' .. ARGV[3]
local count = redis.call('HLEN', key)
local has_dead = redis.call('SCARD', base .. ':ended') + redis.call('ZCOUNT', base .. ':leases', '-inf', now_ms) > 0
if count > limit and not has_dead then
  return {epoch, seq_text, count}
end

local alive = {}
local function is_any_alive(nodes)
  if alive[nodes] == nil then
    alive[nodes] = false
    for node in string.gmatch(nodes, '[^,]+') do
      alive[nodes] = alive[nodes] or (tonumber(redis.call('ZSCORE', base .. ':leases', node) or '') or 0) > now_ms
    end
  end
  return alive[nodes]
end

local entries, kept = redis.call('HGETALL', key), 0
for index = 1, #entries, 2 do
  local value = entries[index + 1]
  local space = string.find(value, ' ', 1, true)
  if space and (not has_dead or is_any_alive(string.sub(value, 1, space - 1))) then
    entries[kept + 1], entries[kept + 2] = entries[index], string.sub(value, space + 1)
    kept = kept + 2
  end
end
for index = #entries, kept + 1, -1 do
  entries[index] = nil
end
count = kept / 2
if count > limit then
  return {epoch, seq_text, count}
end
return {epoch, seq_text, count, entries}
