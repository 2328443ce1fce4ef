-- One step of the store of background jobs (docs/background-jobs.md). KEYS[1] begins the names of all keys; its hash
-- tag puts them into one slot. ARGV[1] is the step. A job is a hash; `queued` and `leases` order the jobs that have not
-- ended, `active:<user>` holds those of a user, `ended:<user>` orders the others.
local base, step = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local queued, leases = base .. 'queued', base .. 'leases'

local function key_of(id)
  return base .. 'job:' .. id
end

local function number(value)
  return string.format('%.0f', value)
end

-- Ends a job. `fields` are names and values. Keeps the last `kept` ended jobs of the user for `expiry_ms`.
local function finish(id, fields, expiry_ms, kept)
  local key = key_of(id)
  local user = redis.call('HGET', key, 'user')
  redis.call('HSET', key, unpack(fields))
  redis.call('HDEL', key, 'request')
  redis.call('ZREM', queued, id)
  redis.call('ZREM', leases, id)
  redis.call('SREM', base .. 'active:' .. user, id)
  redis.call('PEXPIRE', key, expiry_ms)
  local ended = base .. 'ended:' .. user
  redis.call('ZADD', ended, number(now_ms), id)
  local surplus = redis.call('ZCARD', ended) - tonumber(kept)
  if surplus > 0 then
    for _, old in ipairs(redis.call('ZRANGE', ended, 0, surplus - 1)) do
      redis.call('DEL', key_of(old))
    end
    redis.call('ZREMRANGEBYRANK', ended, 0, surplus - 1)
  end
  redis.call('PEXPIRE', ended, expiry_ms)
end

local steps = {}

-- id, lease_ms, user_jobs_max, queue_max, user, owner, more fields and values
function steps.create(id, lease_ms, user_max, queue_max, user, owner, ...)
  local key, active = key_of(id), base .. 'active:' .. user
  if redis.call('HGET', key, 'owner') == owner then
    return 'ok' -- a repetition, after a reply was lost
  end
  if redis.call('SCARD', active) >= tonumber(user_max) then
    return 'user'
  end
  if redis.call('ZCARD', queued) >= tonumber(queue_max) then
    return 'queue'
  end
  redis.call('HSET', key, 'id', id, 'user', user, 'owner', owner, 'state', 'queued', ...)
  redis.call('SADD', active, id)
  redis.call('ZADD', queued, number(now_ms), id)
  redis.call('ZADD', leases, number(now_ms + lease_ms), id)
  return 'ok'
end

function steps.remove(id)
  local key = key_of(id)
  local user = redis.call('HGET', key, 'user')
  if user then
    redis.call('SREM', base .. 'active:' .. user, id)
    redis.call('ZREM', base .. 'ended:' .. user, id)
  end
  redis.call('ZREM', queued, id)
  redis.call('ZREM', leases, id)
  redis.call('DEL', key)
  return 'ok'
end

function steps.start(id, lease_ms, owner, new_owner)
  local key = key_of(id)
  local stored = redis.call('HMGET', key, 'state', 'owner')
  if not (stored[1] == 'running' and stored[2] == new_owner) then -- otherwise a repetition
    local lease_end = tonumber(redis.call('ZSCORE', leases, id) or '0')
    if stored[1] ~= 'queued' or stored[2] ~= owner or lease_end <= now_ms then
      return false
    end
    redis.call('HSET', key, 'state', 'running', 'owner', new_owner)
    redis.call('ZREM', queued, id)
    redis.call('ZADD', leases, number(now_ms + lease_ms), id)
  end
  return redis.call('HGETALL', key)
end

function steps.renew(id, lease_ms, owner, progress, message)
  local key = key_of(id)
  local stored = redis.call('HMGET', key, 'state', 'owner')
  if (stored[1] ~= 'running' and stored[1] ~= 'queued') or stored[2] ~= owner then
    return false
  end
  redis.call('ZADD', leases, number(now_ms + lease_ms), id)
  redis.call('HSET', key, 'progress', progress, 'message', message)
  return { 'cancel', redis.call('HGET', key, 'cancel') or '' }
end

function steps.finish(id, owner, expiry_ms, kept, ...)
  local stored = redis.call('HMGET', key_of(id), 'state', 'owner', 'ended_by')
  if stored[3] == owner then
    return 1 -- a repetition
  end
  if stored[1] ~= 'running' or stored[2] ~= owner then
    return 0
  end
  finish(id, { 'ended_by', owner, ... }, expiry_ms, kept)
  return 1
end

function steps.cancel(id, expiry_ms, kept)
  local key = key_of(id)
  local state = redis.call('HGET', key, 'state')
  if state == 'queued' then
    finish(id, { 'state', 'cancelled', 'cancel', '1' }, expiry_ms, kept)
  elseif state == 'running' then
    redis.call('HSET', key, 'cancel', '1')
  end
  return redis.call('HGETALL', key)
end

function steps.read(id)
  return redis.call('HGETALL', key_of(id))
end

function steps.lapsed(expiry_ms, kept, limit, failure)
  local jobs = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', number(now_ms), 'LIMIT', 0, limit)) do
    if redis.call('EXISTS', key_of(id)) == 1 then
      finish(id, { 'state', 'failed', 'failure', failure }, expiry_ms, kept)
      jobs[#jobs + 1] = redis.call('HGETALL', key_of(id))
    else
      redis.call('ZREM', leases, id)
      redis.call('ZREM', queued, id)
    end
  end
  return jobs
end

return steps[step](unpack(ARGV, 2))
