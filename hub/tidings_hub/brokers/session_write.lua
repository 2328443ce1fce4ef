-- Create, update, touch and delete session records (PROTOCOL.md section 7). Each has one owner and one epoch.
-- KEYS: meta, then the record of each operation
-- ARGV: candidate epoch, then for each operation: create, update, touch or delete; owner, ttl_s, user, body
-- Returns for each operation 1: done, 0: there is no such record, -1: the record has another owner.
local epoch, results = begin(KEYS[1], ARGV[1]), {}
for index = 2, #KEYS do
  local key, argument = KEYS[index], 5 * index - 8
  local operation, head = ARGV[argument], epoch .. ' ' .. ARGV[argument + 1] .. ' '
  local stored_epoch, stored_owner = string.match(redis.call('GETRANGE', key, 0, 127), '^(%S+) (%S+) ')
  if stored_epoch == epoch and stored_owner ~= ARGV[argument + 1] then
    results[#results + 1] = -1
  elseif stored_epoch ~= epoch and operation ~= 'create' then
    results[#results + 1] = 0
  else
    if operation == 'delete' then
      redis.call('DEL', key)
    elseif operation == 'touch' then
      redis.call('EXPIRE', key, ARGV[argument + 2])
    else
      redis.call('SET', key, head .. ARGV[argument + 3] .. ' ' .. ARGV[argument + 4], 'EX', ARGV[argument + 2])
    end
    results[#results + 1] = 1
  end
end
return results
