-- Renew or release the lease of a node's address, and read those of all nodes.
-- KEYS: nodes
-- ARGV: node id, its address (empty: it releases the lease), lease in ms
-- Returns {now in ms, {id, address, ms left, ...}}. Ended leases are removed. A released lease stays for `lease in ms`
-- with an empty address, so that every node learns of it.
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local end_ms = now_ms + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', end_ms) .. ' ' .. ARGV[2])
local entries, leases = redis.call('HGETALL', KEYS[1]), {}
for index = 1, #entries, 2 do
  local stored_end_ms, address = string.match(entries[index + 1], '^(%d+) (.*)$')
  local left_ms = (tonumber(stored_end_ms or '') or 0) - now_ms
  -- A clock that was set back must not keep a dead node for more than an hour.
  if left_ms <= 0 or left_ms > 3600000 then
    redis.call('HDEL', KEYS[1], entries[index])
  else
    leases[#leases + 1] = entries[index]
    leases[#leases + 1] = address
    leases[#leases + 1] = string.format('%.0f', left_ms)
  end
end
return {string.format('%.0f', now_ms), leases}
