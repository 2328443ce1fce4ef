-- What a missing pointer proves (docs/architecture.md#why-horizon, PROTOCOL.md section 7).
-- The horizon is a seq. A channel without a pointer has no publication after it. So a channel in which nothing was ever
-- published needs no key. A mark `<seq> <until_ms>` means: at `until_ms` minus the lifetime of pointers, the sequence
-- was at `seq`. The oldest valid mark is the horizon. Proof: a publication after the horizon is younger than the mark,
-- so its pointer expires after `until_ms`. Whatever can end a pointer earlier invalidates or shortens the mark:
--   another epoch: the marks begin with the name of theirs
--   an eviction: marks are valid only while Redis has evicted nothing, and its statistics were not reset
--   a shorter lifetime of pointers: rules.lua deletes the marks
--   a clock that goes back: begin.lua adds the difference to `back_ms`
-- A mark ends a sixteenth of the lifetime early. No time is compared more exactly than that.

-- CONFIG RESETSTAT hides an eviction, but it is itself the first command in the new statistics: Redis counts a command
-- after it ran. Redis 6 counts all CONFIG commands together. Reading the statistics of all commands takes about 20 us.
-- So the script reads them only if Redis may have executed all of `total_commands_processed` since the last time. The
-- limit is 10 million commands per second, more than any Redis executes, plus 10 ms, in which this script runs.
local function may_have_evicted(meta, clock_ms, checked)
  local stats = redis.call('INFO', 'stats')
  if string.match(stats, 'evicted_keys:(%d+)') ~= '0' then
    return true
  end
  local commands = tonumber(string.match(stats, 'total_commands_processed:(%d+)') or '') or 0
  local age_ms = clock_ms - (tonumber(checked or '') or 0)
  if age_ms >= 0 and commands > (age_ms + 10) * 10000 then
    return false
  end
  local commandstats = redis.call('INFO', 'commandstats')
  if not string.find(commandstats, 'cmdstat_', 1, true) or string.find(commandstats, 'cmdstat_config|resetstat:calls=[1-9]')
    or string.find(commandstats, 'cmdstat_config:calls=[1-9]') then
    return true
  end
  redis.call('HSET', meta, 'stats_ms', string.format('%.0f', clock_ms))
  return false
end

local function read_marks(meta, epoch)
  local time, fields = redis.call('TIME'), redis.call('HMGET', meta, 'marks', 'back_ms', 'pointer_ttl_s', 'stats_ms')
  local clock_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + (tonumber(fields[2] or '') or 0)
  local marks = {clock_ms = clock_ms, life_ms = (tonumber(fields[3] or '') or 0) * 1000}
  if may_have_evicted(meta, clock_ms, fields[4]) then
    marks.evicts = true
    return marks
  end
  local name, list = string.match(fields[1] or '', '^(%S+)(.*)$')
  if name == epoch then
    for seq, until_ms in string.gmatch(list, ' (%d+) (%d+)') do
      if tonumber(until_ms) > clock_ms then
        marks[#marks + 1] = {seq, tonumber(until_ms)}
      end
    end
  end
  return marks
end

-- Whether a channel without a pointer has lost one: it has a history.
local function has_lost_pointer(stream)
  return redis.call('TYPE', stream).ok == 'stream'
end

-- The horizon as a number, or nil if a missing pointer proves nothing.
local function horizon(meta, epoch)
  local oldest = read_marks(meta, epoch)[1]
  return oldest and tonumber(oldest[1])
end
