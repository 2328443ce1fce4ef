-- The beginning of every script that reads or writes the sequence (PROTOCOL.md section 7).
-- Returns the epoch and the seq of the last publication. A new epoch begins if there is none, or if this Redis process
-- is not the one in which the stored epoch began: after a restart or a failover, Redis may have lost what it
-- acknowledged, and nothing can prove the opposite. INFO runs at most every 50 ms, because no Redis restarts faster.
local function begin(meta, candidate)
  local time = redis.call('TIME')
  local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local stored = redis.call('HMGET', meta, 'epoch', 'seq', 'run_id', 'checked_ms')
  local epoch, seq = stored[1], tonumber(stored[2] or '')
  local age_ms = now_ms - (tonumber(stored[4] or '') or 0)
  if age_ms < 0 then
    -- The clock went back by this much. Keys expire that much earlier than older marks (horizon.lua) assume.
    redis.call('HINCRBY', meta, 'back_ms', string.format('%.0f', -age_ms))
  end
  if epoch and seq and age_ms >= 0 and age_ms <= 50 then
    return epoch, seq
  end
  local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or '-'
  if not (epoch and seq and stored[3] == run_id) then
    epoch, seq = candidate, seq or 0
    redis.call('HSET', meta, 'epoch', epoch, 'seq', string.format('%.0f', seq), 'run_id', run_id)
  end
  redis.call('HSET', meta, 'checked_ms', string.format('%.0f', now_ms))
  return epoch, seq
end
