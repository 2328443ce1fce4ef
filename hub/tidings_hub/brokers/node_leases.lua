-- Says where a node is reached, and calls the roll.
-- KEYS: nodes
-- ARGV: node id, its address (empty: it gives its lease up), milliseconds of the lease
-- Returns {now in ms, {id, address, milliseconds left, ...}}. Leases that have ended are removed. One that was given
-- up stays for its time without an address, so that everybody hears of it.
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local until_ms = now_ms + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', until_ms) .. ' ' .. ARGV[2])
local entries, found = redis.call('HGETALL', KEYS[1]), {}
for at = 1, #entries, 2 do
  local ends, address = string.match(entries[at + 1], '^(%d+) (.*)$')
  local left = (tonumber(ends or '') or 0) - now_ms
  -- A clock that was set back must not keep a dead node for longer than a lease.
  if left <= 0 or left > 3600000 then
    redis.call('HDEL', KEYS[1], entries[at])
  else
    found[#found + 1] = entries[at]
    found[#found + 1] = address
    found[#found + 1] = string.format('%.0f', left)
  end
end
return {string.format('%.0f', now_ms), found}
