-- Store revocations, and remove ended ones. Safe to run any number of times, on any number of nodes.
-- KEYS: revoked
-- ARGV: number of ended ones, name and stored end of each, then name and end in unix seconds of each to store
-- A later end replaces an earlier one, never the reverse. An ended one stays if it has another end by now.
local ended = tonumber(ARGV[1])
for index = 2, 2 * ended, 2 do
  if redis.call('HGET', KEYS[1], ARGV[index]) == ARGV[index + 1] then
    redis.call('HDEL', KEYS[1], ARGV[index])
  end
end
for index = 2 + 2 * ended, #ARGV, 2 do
  local known = tonumber(redis.call('HGET', KEYS[1], ARGV[index]) or '')
  if not known or known < tonumber(ARGV[index + 1]) then
    redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 1])
  end
end
return 1
