-- Acts on notes (PROTOCOL.md section 7): each under the name of one owner, and of one epoch.
-- KEYS: meta, then one per act
-- ARGV: candidate epoch, then per act: what (new, change, prolong, drop), owner, ttl_s, user, body
-- Returns per act 1: done, 0: there is no such note (any more), -1: it is another owner's.
local epoch, found = begin(KEYS[1], ARGV[1]), {}
for index = 2, #KEYS do
  local key, at = KEYS[index], 5 * index - 8
  local act, head = ARGV[at], epoch .. ' ' .. ARGV[at + 1] .. ' '
  local known_epoch, known_owner = string.match(redis.call('GETRANGE', key, 0, 127), '^(%S+) (%S+) ')
  if known_epoch == epoch and known_owner ~= ARGV[at + 1] then
    found[#found + 1] = -1
  elseif known_epoch ~= epoch and act ~= 'new' then
    found[#found + 1] = 0
  else
    if act == 'drop' then
      redis.call('DEL', key)
    elseif act == 'prolong' then
      redis.call('EXPIRE', key, ARGV[at + 2])
    else
      redis.call('SET', key, head .. ARGV[at + 3] .. ' ' .. ARGV[at + 4], 'EX', ARGV[at + 2])
    end
    found[#found + 1] = 1
  end
end
return found
