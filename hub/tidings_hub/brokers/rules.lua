-- Write the rules of all namespaces, and how long pointers live from now on.
-- KEYS: meta, rules
-- ARGV: pointer_ttl_s, then field and value of each rule
-- Pointers that live shorter than before end earlier than the marks of the horizon say: they are deleted.
local known = tonumber(redis.call('HGET', KEYS[1], 'pointer_ttl_s') or '')
if not known or known > tonumber(ARGV[1]) then
  redis.call('HDEL', KEYS[1], 'marks')
end
redis.call('HSET', KEYS[1], 'pointer_ttl_s', ARGV[1])
redis.call('DEL', KEYS[2])
for index = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[index], ARGV[index + 1])
end
return 1
