-- Claim a session record: read and delete it (PROTOCOL.md section 7). Of two callers, one gets it.
-- KEYS: meta, the record
-- ARGV: candidate epoch, the user who may claim it (empty: any)
-- Returns {} if there is no record, {''} if it belongs to another user and stays, otherwise {owner, user, body}.
local epoch = begin(KEYS[1], ARGV[1])
local stored_epoch, owner, user, body = string.match(redis.call('GET', KEYS[2]) or '', '^(%S+) (%S+) (%S+) (.*)$')
if stored_epoch ~= epoch then
  return {}
end
if ARGV[2] ~= '' and ARGV[2] ~= user then
  return {''}
end
redis.call('DEL', KEYS[2])
return {owner, user, body}
