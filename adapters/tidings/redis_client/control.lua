-- Tell every node to do something, and in the same step remember a revocation.
-- KEYS: revoked
-- ARGV: pub/sub name, message, the revocation's name (empty: none), its end in unix seconds, and in a cluster SPUBLISH
-- Returns how many heard it.
if ARGV[3] ~= '' then
  local known = tonumber(redis.call('HGET', KEYS[1], ARGV[3]) or '')
  if not known or known < tonumber(ARGV[4]) then
    redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
  end
end
return redis.call(ARGV[5] or 'PUBLISH', ARGV[1], ARGV[2])
