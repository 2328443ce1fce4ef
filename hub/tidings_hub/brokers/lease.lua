-- Acquire, renew or release a lease.
-- KEYS: the lease
-- ARGV: the caller, lease in ms (0: release it)
-- Returns 0: another caller has it, or it was released; 1: acquired; 2: renewed.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return holder and 2 or 1
