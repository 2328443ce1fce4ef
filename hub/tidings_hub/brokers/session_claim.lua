-- Take a note away (PROTOCOL.md section 7): of two who try, one gets it.
-- KEYS: meta, the note
-- ARGV: candidate epoch, the user who may (empty: any)
-- Returns {} if there is none, {''} if it is another user's and stays, otherwise {owner, user, body}.
local epoch = begin(KEYS[1], ARGV[1])
local known, owner, user, body = string.match(redis.call('GET', KEYS[2]) or '', '^(%S+) (%S+) (%S+) (.*)$')
if known ~= epoch then
  return {}
end
if ARGV[2] ~= '' and ARGV[2] ~= user then
  return {''}
end
redis.call('DEL', KEYS[2])
return {owner, user, body}
