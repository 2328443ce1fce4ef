-- Append notifications to the stream that the notification service reads.
-- KEYS: notifications, categories. ARGV: for each notification its category, and itself as JSON.
-- Returns a line for each: '+', or '-' if the service has no such category.
-- An error of the script means that nothing was appended.
local fields = {':stream_max'}
for i = 1, #ARGV, 2 do
  fields[#fields + 1] = ARGV[i]
end
local known = redis.call('HMGET', KEYS[2], unpack(fields))
local stream_max = tonumber(known[1] or '')
if not stream_max then
  return redis.error_reply('NOSERVICE no notification service has used this database')
end
if redis.call('XLEN', KEYS[1]) >= stream_max then
  return redis.error_reply('BEHIND the stream of notifications is full')
end
local lines = {}
for i = 2, #fields do
  lines[i - 1] = '-'
  if known[i] then
    redis.call('XADD', KEYS[1], '*', 'n', ARGV[2 * (i - 1)])
    lines[i - 1] = '+'
  end
end
return table.concat(lines, '\n')
