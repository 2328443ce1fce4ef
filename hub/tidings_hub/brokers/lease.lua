-- Takes, keeps or gives up a lease.
-- KEYS: the lease
-- ARGV: who asks, milliseconds (0: it is given up)
-- Returns 0: another has it, or nobody any more; 1: it was taken anew; 2: it was kept.
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
