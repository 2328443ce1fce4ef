-- Number, store and publish one body, or say what its id got the first time.
-- KEYS: meta, rules, stream, pointer, idempotency
-- ARGV: namespace, pub/sub channel, body, candidate epoch, idempotency_s, pointer_ttl_s (if the rules have none), and
--       in a cluster SPUBLISH
-- Returns {cursor, duplicate}.
local rules = redis.call('HMGET', KEYS[2], ARGV[1], '*', ':pointer_ttl_s')
local rule, pointer_ttl_s = rules[1] or rules[2], tonumber(rules[3] or '') or ARGV[6]
if not rule then
  if redis.call('EXISTS', KEYS[2]) == 0 then
    return redis.error_reply('NORULES no hub has started on this broker yet')
  end
  return redis.error_reply('UNKNOWNNAMESPACE ' .. ARGV[1])
end
local history, history_ttl_s = string.match(rule, '^(%d+) (%d+)$')
local epoch = begin(KEYS[1], ARGV[4])
local idempotent = tonumber(ARGV[5]) > 0
if idempotent then
  local first = redis.call('GET', KEYS[5])
  if first then
    return {first, 1}
  end
end
local prev = tonumber(redis.call('GET', KEYS[4]) or '')
local number = redis.call('HINCRBY', KEYS[1], 'seq', 1)
local seq = string.format('%.0f', number)
-- Where the pointer is missing or of another sequence, the past is unknown: a possible gap.
if not prev or prev >= number then
  prev = number - 1
end
local message = 't1 ' .. seq .. ' ' .. string.format('%.0f', prev) .. ' ' .. epoch .. ' ' .. ARGV[3]
if history and history ~= '0' then
  local id = seq .. '-0'
  local added = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', history, id, 'm', message)
  if type(added) == 'table' and added.err then
    -- The stream is of a sequence that went further, or is no stream: nothing in it counts any more.
    redis.call('DEL', KEYS[3])
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', history, id, 'm', message)
  end
  redis.call('EXPIRE', KEYS[3], history_ttl_s)
end
redis.call('SET', KEYS[4], seq, 'EX', pointer_ttl_s)
local cursor = epoch .. '.' .. seq
if idempotent then
  redis.call('SET', KEYS[5], cursor, 'EX', ARGV[5])
end
redis.call(ARGV[7] or 'PUBLISH', ARGV[2], message)
return {cursor, 0}
