-- Begin a new epoch if the sequence is behind what a node has already received of it.
-- KEYS: meta
-- ARGV: candidate epoch, the node's epoch, the node's seq
-- Returns {epoch, seq}.
local epoch, seq = begin(KEYS[1], ARGV[1])
if epoch == ARGV[2] and seq < tonumber(ARGV[3]) then
  epoch = ARGV[1]
  redis.call('HSET', KEYS[1], 'epoch', epoch)
end
return {epoch, string.format('%.0f', seq)}
