-- The beginning of every script that reads or writes the sequence (PROTOCOL.md section 7).
-- Returns the epoch and the seq of the last publication. A new epoch begins when there is none, and when
-- this Redis is not the process that the old one began in: a restarted or failed-over Redis may have lost
-- what it acknowledged, and nobody can prove that it has not. INFO is asked at most every 50 ms, because
-- nothing restarts faster.
local function begin(meta, candidate)
  local time = redis.call('TIME')
  local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local found = redis.call('HMGET', meta, 'epoch', 'seq', 'run_id', 'checked_ms')
  local epoch, seq = found[1], tonumber(found[2] or '')
  local age_ms = now_ms - (tonumber(found[4] or '') or 0)
  if age_ms < 0 then
    -- The clock went back. Keys that expire live shorter by that than the time of earlier marks (horizon.lua) says.
    redis.call('HINCRBY', meta, 'back_ms', string.format('%.0f', -age_ms))
  end
  if epoch and seq and age_ms >= 0 and age_ms <= 50 then
    return epoch, seq
  end
  local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or '-'
  if not (epoch and seq and found[3] == run_id) then
    epoch, seq = candidate, seq or 0
    redis.call('HSET', meta, 'epoch', epoch, 'seq', string.format('%.0f', seq), 'run_id', run_id)
  end
  redis.call('HSET', meta, 'checked_ms', string.format('%.0f', now_ms))
  return epoch, seq
end
