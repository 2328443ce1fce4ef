-- Send a command to every node, and in the same step store a revocation.
-- KEYS: meta, revoked
-- ARGV: candidate epoch, pub/sub name, message, the revocation's name (empty: none), its end in unix seconds, its
--       duration in seconds (0: none), and PUBLISH or in a cluster SPUBLISH
-- A sender whose clock is behind names an end that is too early, or in the past. With a duration, the end is at least
-- that of the clock of Redis. Differences of less than a second change nothing.
-- The epoch goes in front of the message's fields: pub/sub ignores the number of the database, and nodes of another
-- database must not execute the command.
-- Returns how many subscribers received it, over all databases.
local epoch = begin(KEYS[1], ARGV[1])
local message, until_s, for_s = ARGV[3], ARGV[5], tonumber(ARGV[6])
if ARGV[4] ~= '' then
  local end_s = tonumber(redis.call('TIME')[1]) + for_s
  if for_s > 0 and end_s > tonumber(until_s) + 1 then
    until_s = string.format('%.1f', end_s)
    local command = cjson.decode(message)
    command.until_s = end_s
    message = cjson.encode(command)
  end
  local known = tonumber(redis.call('HGET', KEYS[2], ARGV[4]) or '')
  if not known or known < tonumber(until_s) then
    redis.call('HSET', KEYS[2], ARGV[4], until_s)
  end
end
return redis.call(ARGV[7], ARGV[2], '{"epoch":"' .. epoch .. '",' .. string.sub(message, 2))
