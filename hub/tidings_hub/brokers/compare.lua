-- Compare the last seq of channels with what a node has processed, in one atomic step. It writes nothing.
-- KEYS: meta, doubts, then pointer and stream of each channel
-- ARGV: candidate epoch, pointer_ttl_s, refresh (1: extend the lifetime of pointers, and return channels without one),
--       then per channel the last processed seq (-: return the channel in any case)
-- Returns {epoch, seq, serial of the doubts, {index from 0, pointer}, ...}, without the channels whose pointer is the
-- last processed seq. Instead of a missing pointer: '-<seq>', after which nothing was published (horizon.lua). Without
-- refresh, such a channel is returned only if its last processed seq is before that. false: only since.lua can decide.
local epoch, seq = begin(KEYS[1], ARGV[1])
local ttl_s, refresh = tonumber(ARGV[2]), ARGV[3] == '1'
local doubts = redis.call('HMGET', KEYS[2], '@', '#')
local results = {epoch, string.format('%.0f', seq), doubts[1] == epoch and doubts[2] or '0'}

-- The horizon, read once; false if a missing pointer proves nothing.
local horizon_seq
local function quiet_since(stream)
  if horizon_seq == nil then
    horizon_seq = horizon(KEYS[1], epoch) or false
  end
  return horizon_seq and not has_lost_pointer(stream) and horizon_seq
end

local names = {}
for index = 3, #KEYS, 2 do
  names[#names + 1] = KEYS[index]
end
-- A key of another type is false in the reply, like a missing one.
local pointers = #names > 0 and redis.call('MGET', unpack(names)) or {}
for index, pointer in ipairs(pointers) do
  local after, last = ARGV[index + 3], pointer and tonumber(pointer) or nil
  if last and last <= seq then
    if refresh and redis.call('TTL', names[index]) < ttl_s / 2 then
      redis.call('EXPIRE', names[index], ttl_s)
    end
    if pointer ~= after then
      results[#results + 1] = {index - 1, pointer}
    end
  else
    local quiet = not pointer and quiet_since(KEYS[2 * index + 2])
    if not quiet then
      results[#results + 1] = {index - 1, false}
    elseif refresh or after == '-' or quiet > tonumber(after) then
      results[#results + 1] = {index - 1, string.format('-%.0f', quiet)}
    end
  end
end
return results
