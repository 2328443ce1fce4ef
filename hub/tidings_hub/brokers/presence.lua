-- One presence round of a node: renew its lease, write its changes, sweep dead nodes, and publish joins and leaves.
-- KEYS: meta. The script builds the other keys from the names of channels. They are in the same slot.
-- ARGV: candidate epoch, prefix of all keys, node, the epoch that it has written to (empty: it starts), lease_ms,
--       list_max, event_max_bytes, pointer_ttl_s, sweep_max, PUBLISH or SPUBLISH, number of namespaces, the namespaces,
--       then for each change: channel, user, info (empty: the user has left)
-- Returns {epoch, 1 (0: Redis does not have this node's members, so nothing was written), nodes that are still to be
-- swept, users joined, users left, nodes whose lease ended}.
local epoch = begin(KEYS[1], ARGV[1])
local base, node, lease_ms, list_max = ARGV[2] .. 'presence', ARGV[3], tonumber(ARGV[5]), tonumber(ARGV[6])
local event_max, sweep_max, names = tonumber(ARGV[7]), tonumber(ARGV[9]), tonumber(ARGV[11])
local leases, ended, large, changed = base .. ':leases', base .. ':ended', base .. ':large', base .. ':changed'
local clock = redis.call('TIME')
local now_ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local at_ms = string.format('%.0f', now_ms)
local users_joined, users_left, nodes_ended = 0, 0, 0

local round = redis.call('HMGET', base, 'epoch', 'turned_ms')
if round[1] ~= epoch or now_ms - (tonumber(round[2] or '') or 0) > lease_ms / 2 then
  -- This Redis may have lost the latest writes, or no node could reach it. That is no fault of the nodes. So no node is
  -- swept before all of them had time for a round.
  for _, name in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
    redis.call('ZADD', leases, 'GT', string.format('%.0f', now_ms + lease_ms), name)
  end
end
redis.call('HSET', base, 'epoch', epoch, 'turned_ms', at_ms)
if ARGV[4] ~= '' and (ARGV[4] ~= epoch or not redis.call('ZSCORE', leases, node)) then
  return {epoch, 0, 0, 0, 0, 0}
end
redis.call('ZADD', leases, string.format('%.0f', now_ms + lease_ms), node)
if ARGV[4] == '' then
  redis.call('DEL', base .. ':namespaces')
  for index = 12, 11 + names do
    redis.call('SADD', base .. ':namespaces', ARGV[index])
  end
end

-- What changed in each channel, over all nodes.
local changes, changed_channels = {}, {}
local function changes_of(channel)
  local change = changes[channel]
  if not change then
    change = {joined = {}, left = {}}
    changes[channel] = change
    changed_channels[#changed_channels + 1] = channel
  end
  return change
end

-- The nodes in a list of names, without `name`.
local function without(nodes, name)
  local rest = {}
  for other in string.gmatch(nodes, '[^,]+') do
    if other ~= name then
      rest[#rest + 1] = other
    end
  end
  return rest
end

local function join(channel, user, info)
  local key, nodes = base .. ':of:' .. channel, {}
  local entry = redis.call('HGET', key, user)
  if entry then
    nodes = without(string.match(entry, '^%S*'), node)
  else
    local joined = changes_of(channel).joined
    joined[#joined + 1] = '{"user":"' .. user .. '","info":' .. info .. '}'
    users_joined = users_joined + 1
  end
  nodes[#nodes + 1] = node
  redis.call('HSET', key, user, table.concat(nodes, ',') .. ' ' .. info)
  redis.call('SADD', base .. ':at:' .. node, channel .. ' ' .. user)
end

local function leave(name, channel, user)
  local key = base .. ':of:' .. channel
  local nodes, info = string.match(redis.call('HGET', key, user) or '', '^(%S*) (.*)$')
  if not nodes then
    return
  end
  local rest = without(nodes, name)
  if #rest > 0 then
    redis.call('HSET', key, user, table.concat(rest, ',') .. ' ' .. info)
  else
    redis.call('HDEL', key, user)
    local left = changes_of(channel).left
    left[#left + 1] = '"' .. user .. '"'
    users_left = users_left + 1
  end
end

-- As in publish.lua: pointers have the lifetime of the rules, whatever program writes them. The horizon depends on it.
local pointer_ttl_s = tonumber(redis.call('HGET', ARGV[2] .. 'rules', ':pointer_ttl_s') or '') or ARGV[8]

-- Publish an event in the presence channel of `channel`. It has a seq like every publication, but is not stored.
local function publish(channel, event, data)
  local name = 'tidings:presence:' .. channel
  local pointer = ARGV[2] .. 'p:' .. name
  local stored = redis.call('GET', pointer)
  local prev = tonumber(stored or '')
  if not stored then
    prev = horizon(KEYS[1], epoch)
  end
  local number = redis.call('HINCRBY', KEYS[1], 'seq', 1)
  local seq = string.format('%.0f', number)
  if not prev or prev >= number then
    prev = number - 1
  end
  local head = 't1 ' .. seq .. ' ' .. string.format('%.0f', prev) .. ' ' .. epoch
  local body = 'presence-' .. seq .. ' ' .. at_ms .. ' - ' .. (#event + 2) .. ' "' .. event .. '",' .. data
  redis.call('SET', pointer, seq, 'EX', pointer_ttl_s)
  redis.call(ARGV[10], ARGV[2] .. 'c:' .. name, head .. ' ' .. body)
end

-- Publish events with `items` under the key `field`, each of at most `event_max` bytes.
local function publish_items(channel, event, field, items, count)
  local part, bytes = {}, 0
  for index, item in ipairs(items) do
    part[#part + 1] = item
    bytes = bytes + #item + 1
    if index == #items or bytes + #items[index + 1] + 64 > event_max then
      publish(channel, event, '{"' .. field .. '":[' .. table.concat(part, ',') .. '],"count":' .. count .. '}')
      part, bytes = {}, 0
    end
  end
end

local function publish_count(channel, count, listed)
  publish(channel, 'stats', '{"count":' .. count .. ',"listed":' .. listed .. '}')
end

-- Changes before the sweep: a user who moved here from a dead node has never left.
for index = 12 + names, #ARGV, 3 do
  if ARGV[index + 2] == '' then
    leave(node, ARGV[index], ARGV[index + 1])
    redis.call('SREM', base .. ':at:' .. node, ARGV[index] .. ' ' .. ARGV[index + 1])
  else
    join(ARGV[index], ARGV[index + 1], ARGV[index + 2])
  end
end
-- The lease of a dead node is removed at once, so that the node cannot return while it is only half swept.
for _, name in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', at_ms, 'LIMIT', 0, 10)) do
  redis.call('ZREM', leases, name)
  redis.call('SADD', ended, name)
  nodes_ended = nodes_ended + 1
end
for _, name in ipairs(redis.call('SRANDMEMBER', ended, 10)) do
  if sweep_max > 0 then
    local entries = redis.call('SPOP', base .. ':at:' .. name, sweep_max)
    for _, entry in ipairs(entries) do
      local channel, user = string.match(entry, '^(%S+) (%S+)$')
      if channel then
        leave(name, channel, user)
      end
    end
    if #entries < sweep_max then
      redis.call('SREM', ended, name)
    end
    sweep_max = sweep_max - #entries
  end
end

for _, channel in ipairs(changed_channels) do
  local change, count = changes[channel], redis.call('HLEN', base .. ':of:' .. channel)
  if redis.call('SISMEMBER', large, channel) == 1 then
    if count * 10 <= list_max * 9 then
      redis.call('SREM', large, channel)
      redis.call('SREM', changed, channel)
      publish_count(channel, count, 'true')
    else
      redis.call('SADD', changed, channel)
    end
  elseif count > list_max then
    redis.call('SADD', large, channel)
    publish_count(channel, count, 'false')
  else
    publish_items(channel, 'join', 'members', change.joined, count)
    publish_items(channel, 'leave', 'users', change.left, count)
  end
end
-- Counts of large channels, at most once a second over all nodes.
local counted_ms = tonumber(redis.call('HGET', base, 'told_ms') or '') or 0
if now_ms - counted_ms >= 1000 or now_ms < counted_ms then
  local channels = redis.call('SPOP', changed, 100)
  if #channels > 0 then
    redis.call('HSET', base, 'told_ms', at_ms)
  end
  for _, channel in ipairs(channels) do
    publish_count(channel, redis.call('HLEN', base .. ':of:' .. channel), 'false')
  end
end
return {epoch, 1, redis.call('SCARD', ended), users_joined, users_left, nodes_ended}
