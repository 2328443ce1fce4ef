-- Replace the rules of all namespaces, and set the lifetime of new pointers.
-- KEYS: meta, rules
-- ARGV: pointer_ttl_s, then field and value of each rule
-- A shorter lifetime than before contradicts the marks of the horizon (horizon.lua), so they are deleted.
local stored_ttl_s = tonumber(redis.call('HGET', KEYS[1], 'pointer_ttl_s') or '')
if not stored_ttl_s or stored_ttl_s > tonumber(ARGV[1]) then
  redis.call('HDEL', KEYS[1], 'marks')
end
redis.call('HSET', KEYS[1], 'pointer_ttl_s', ARGV[1])
redis.call('DEL', KEYS[2])
for index = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[index], ARGV[index + 1])
end
return 1
