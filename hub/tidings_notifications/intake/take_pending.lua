-- Take over what was read and not acknowledged: of this consumer's earlier life, and of consumers that have ended.
-- KEYS: the stream. ARGV: the group, this consumer, milliseconds of silence after which a consumer has ended, the most
--       entries, whether this consumer's own entries are to be read again: '0' only old ones, '1' after a start of its
--       process, '2' after its connection broke, which says nothing about the entries and is not counted,
--       milliseconds after which an own entry is old, and the most bytes of an entry, and of all but the last one.
-- Returns for each entry: its id, how often it was delivered, its fields, and whether it was another consumer's.
local stream, group, consumer, limit = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[4])
local entry_max_bytes = tonumber(ARGV[7])
local entries, left_bytes = {}, entry_max_bytes

-- The fields of an entry, or the beginning of the notification in one that is too large.
local function carried(fields)
  local size_bytes = 0
  for _, text in ipairs(fields) do
    size_bytes = size_bytes + #text
  end
  left_bytes = left_bytes - size_bytes
  if size_bytes <= entry_max_bytes then
    return fields
  end
  for i = 1, #fields, 2 do
    if fields[i] == 'n' then
      return {'n', string.sub(fields[i + 1], 1, entry_max_bytes)}
    end
  end
  return {}
end

local function take(owner, is_counted, idle_ms)
  local pending = redis.call('XPENDING', stream, group, '-', '+', limit - #entries, owner)
  for _, entry in ipairs(pending) do
    if entry[3] >= idle_ms and left_bytes > 0 then
      local times = is_counted and entry[4] + 1 or entry[4]
      local claimed = redis.call('XCLAIM', stream, group, consumer, 0, entry[1], 'RETRYCOUNT', times)
      if claimed[1] then
        entries[#entries + 1] = {entry[1], entry[4], carried(claimed[1][2]), owner == consumer and 0 or 1}
      else
        -- It was deleted. Older versions of Redis leave it pending.
        redis.call('XACK', stream, group, entry[1])
      end
    end
  end
  return #pending
end

take(consumer, ARGV[5] ~= '2', ARGV[5] == '0' and tonumber(ARGV[6]) or 0)
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local info = {}
  for i = 1, #fields, 2 do
    info[fields[i]] = fields[i + 1]
  end
  if info.name ~= consumer and info.idle >= tonumber(ARGV[3]) and #entries < limit then
    -- In the same step as the look at its entries: what an ended consumer read meanwhile would be lost with it.
    if take(info.name, true, 0) == 0 then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, info.name)
    end
  end
end
return entries
