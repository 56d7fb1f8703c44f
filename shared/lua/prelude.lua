-- prelude.lua — what every script begins with; the loader puts it in front of each.
--
-- Keys      Scripts take the prefix and ids, and derive keys here from the job's own fields, so that no caller's
--           stale copy decides whose window is released. This ties us to one primary (docs/decisions/0002).
-- Clock     Redis TIME in whole milliseconds. Callers' clocks differ; this one orders everything.

local prefix = ARGV[1]

local function key(...)
  return prefix .. table.concat({...}, ':')
end

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Numbers as text without an exponent: tostring(1.7e12) would lose digits.
local function int(n)
  return string.format('%.0f', n)
end

-- Milliseconds since 1970 as ISO 8601 in UTC. Days to date: Howard Hinnant, "chrono-compatible low-level date
-- algorithms", civil_from_days.
local function iso(ms)
  local seconds = math.floor(ms / 1000)
  local z = math.floor(seconds / 86400) + 719468
  local rest = seconds % 86400
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day,
    math.floor(rest / 3600), math.floor(rest % 3600 / 60), rest % 60, ms % 1000)
end

local FINAL = {succeeded = true, failed = true, cancelled = true, timed_out = true, expired = true}

-- Have a final job's record end after so long, unless something is left to do for it (settle_errand.lua): then that does.
local function forget_in(id, ms)
  local job = key('job', id)
  for _, state in ipairs(redis.call('HMGET', job, 'callback_state', 'archive_state')) do
    if state == 'pending' then return end
  end
  redis.call('PEXPIRE', job, ms)
end

-- Append the next event of a job to its frontend's stream; the only place that raises `seq`.
-- parts: JSON texts by name (eta_seconds, progress, queue, result, error, timing); missing ones become null.
local function announce(id, event_type, at, parts)
  local job = key('job', id)
  local h = redis.call('HMGET', job, 'frontend', 'state', 'run_id', 'echo')
  local seq = redis.call('HINCRBY', job, 'seq', 1)
  local function part(name)
    return '"' .. name .. '":' .. (parts[name] or 'null')
  end
  local data = table.concat({
    '{"schema":"conveyor.event/1"', '"type":"' .. event_type .. '"', '"job_id":"' .. id .. '"',
    '"seq":' .. seq, '"at":"' .. iso(at) .. '"', '"state":"' .. h[2] .. '"',
    '"final":' .. (FINAL[h[2]] and 'true' or 'false'),
    '"run_id":' .. (h[3] and cjson.encode(h[3]) or 'null'),
    '"frontend":"' .. h[1] .. '"', h[4],
    part('eta_seconds'), part('progress'), part('queue'), part('result'), part('error'), part('timing') .. '}',
  }, ',')
  local entry = redis.call('XADD', key('results', h[1]), '*',
    'type', event_type, 'job_id', id, 'seq', seq, 'data', data)
  return seq, entry, data
end

-- How far a job moves its user's turn on. Whole numbers, so that sums of many stay exact: 2520 can be divided by each weight
-- from 1 to 10.
local function step_of(user)
  return tonumber(redis.call('GET', key('step', user)) or '2520')
end

-- Put a user into the ring of a pool, not before the turn already earned: leaving and coming back gains nothing.
local function join_ring(pool, user)
  local ring = key('ring', pool)
  if redis.call('ZSCORE', ring, user) then return end
  local clock = tonumber(redis.call('HGET', key('clocks'), pool) or '0')
  local turns = key('turns', pool)
  redis.call('ZREMRANGEBYSCORE', turns, '-inf', clock)
  local turn = tonumber(redis.call('ZSCORE', turns, user) or clock)
  redis.call('ZREM', turns, user)
  redis.call('ZADD', ring, turn, user)
end

-- Which pauses a user's job of a workflow may be under.
local function scopes_of(user, workflow)
  local scopes = {'all', 'frontend:' .. string.match(user, '^[^:]*'), 'user:' .. user}
  if workflow and workflow ~= '' then scopes[4] = 'workflow:' .. workflow end
  return scopes
end

-- The pause that holds such a job up: its scope and what is known of it; nil when there is none.
local function pause_of(user, workflow)
  local scopes = scopes_of(user, workflow)
  for i, told in ipairs(redis.call('HMGET', key('pauses'), unpack(scopes))) do
    if told then return scopes[i], cjson.decode(told) end
  end
end

-- How long such jobs have been paused so far, ms. Pauses that overlap count each: rather too much than too little.
local function paused_ms(user, workflow, now)
  local scopes, sum = scopes_of(user, workflow), 0
  for _, ended in ipairs(redis.call('HMGET', key('paused'), unpack(scopes))) do sum = sum + tonumber(ended or 0) end
  for _, told in ipairs(redis.call('HMGET', key('pauses'), unpack(scopes))) do
    if told then sum = sum + now - cjson.decode(told).since end
  end
  return sum
end

-- Write down what an operator did, in the call that does it. `by` is JSON of {who, reason}.
local function audit(by, action, target, before, after)
  local h = cjson.decode(by)
  redis.call('XADD', key('audit'), 'MAXLEN', 10000, '*', 'who', h.who, 'action', action, 'target', target,
    'reason', h.reason or '', 'before', before, 'after', after)
end

-- Put a job into its lane; a job that comes back takes its old place.
local function enter_lane(id, pool, user)
  local h = redis.call('HMGET', key('job', id), 'priority', 'created_at', 'expires_at', 'tier')
  redis.call('ZADD', key('lane', pool, user), (9 - h[1]) * 1e13 + h[2], id)
  redis.call('ZADD', key('waiting', h[4] or 'none'), h[2], id)
  redis.call('ZADD', key('expiring'), h[3], id)
  if redis.call('SISMEMBER', key('parked', user), pool) == 0 then
    join_ring(pool, user)
  end
end

local function count_down(counters, field)
  if redis.call('HINCRBY', counters, field, -1) <= 0 then
    redis.call('HDEL', counters, field)
  end
end

-- A job does not wait any more; what is counted by tier is so for metrics only.
local function waits_no_more(id, tier)
  redis.call('ZREM', key('waiting', tier or 'none'), id)
end

-- Take away a job that waits aside because its workflow is paused.
local function leave_aside(id, user)
  local scope = redis.call('HGET', key('job', id), 'aside')
  if not scope then return end
  redis.call('HDEL', key('job', id), 'aside')
  if redis.call('ZREM', key('aside', scope), id) == 0 then return end
  redis.call('ZREM', key('expiring'), id)
  count_down(key('aside', 'users'), user)
end

-- Take a waiting job out of its lane; the user leaves the ring with the last one.
local function leave_lane(id, pool, user, tier)
  local lane = key('lane', pool, user)
  waits_no_more(id, tier)
  if redis.call('ZREM', lane, id) == 0 then
    leave_aside(id, user)
    return
  end
  redis.call('ZREM', key('expiring'), id)
  if redis.call('EXISTS', lane) == 0 then
    local turn = redis.call('ZSCORE', key('ring', pool), user)
    if turn then
      redis.call('ZREM', key('ring', pool), user)
      redis.call('ZADD', key('turns', pool), turn, user)
    end
    redis.call('SREM', key('parked', user), pool)
  end
end

-- Put a user who was taken out of rings back into them.
local function unpark(user)
  for _, pool in ipairs(redis.call('SMEMBERS', key('parked', user))) do
    if redis.call('EXISTS', key('lane', pool, user)) == 1 then join_ring(pool, user) end
  end
  redis.call('DEL', key('parked', user))
end

-- Give back a job's place in the windows; once, however often it is called.
local function release(id, pool, user)
  redis.call('ZREM', key('starting'), id)
  redis.call('HDEL', key('job', id), 'holder')
  if redis.call('ZREM', key('window'), id) == 0 then return end
  count_down(key('window', 'users'), user)
  count_down(key('window', 'pools'), pool)
  unpark(user)
end

-- One look may be at all runs of a workflow, and one time fits them all; thousands of scores need not be written for that.
-- A run whose own time is not after that look has the common one. Answers when they were looked at, and when they are next.
local function together(workflow)
  local told = redis.call('HGET', key('together'), workflow)
  if not told then return 0, 0 end
  local looked, common = string.match(told, '^(%d+) (%d+)$')
  return tonumber(looked), tonumber(common)
end

-- Set when a workflow is looked at next from when its runs are worth a look; forget it with its last run.
local function reschedule(workflow)
  local inflight = key('inflight', workflow)
  local looked, common = together(workflow)
  local due = tonumber(redis.call('ZRANGEBYSCORE', inflight, '(' .. int(looked), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2])
  if redis.call('ZCOUNT', inflight, '-inf', int(looked)) > 0 and (not due or common < due) then due = common end
  if due then
    redis.call('ZADD', key('due'), int(due), workflow)
  else
    redis.call('ZREM', key('due'), workflow)
    redis.call('HDEL', key('looking'), workflow)
    redis.call('HDEL', key('together'), workflow)
  end
end

-- How many jobs go before this one, exactly: turns are served in order, ties by name, each job one step of its user.
local function jobs_ahead(id, pool, user)
  local rank = redis.call('ZRANK', key('lane', pool, user), id)
  if not rank then
    -- A job of a paused workflow: the place it comes back to.
    local scope = redis.call('HGET', key('job', id), 'aside')
    local place = scope and redis.call('ZSCORE', key('aside', scope), id)
    if not place then return nil end
    rank = redis.call('ZCOUNT', key('lane', pool, user), '-inf', '(' .. place)
  end
  local ring = key('ring', pool)
  -- A parked user comes back at his own turn or, when that has passed meanwhile, at the one being served.
  local clock = tonumber(redis.call('HGET', key('clocks'), pool) or '0')
  local mine = redis.call('ZSCORE', ring, user) or redis.call('ZSCORE', key('turns', pool), user)
  local turn = math.max(clock, tonumber(mine or clock)) + rank * step_of(user)
  local ahead = rank
  local others = redis.call('ZRANGEBYSCORE', ring, '-inf', turn, 'WITHSCORES')
  for i = 1, #others, 2 do
    if others[i] ~= user then
      local gap, step = turn - tonumber(others[i + 1]), step_of(others[i])
      local before = math.floor(gap / step) + ((gap % step > 0 or others[i] < user) and 1 or 0)
      ahead = ahead + math.min(before, redis.call('ZCARD', key('lane', pool, others[i])))
    end
  end
  return ahead
end

-- Milliseconds until a waiting job's turn, at the pace of the last jobs: how many must leave before it may pass, through so
-- many places, each held so long. Nil when nothing has passed yet. Limits of 0 are none; what an operator has set counts first.
local function turn_in(id, pool, user, ahead, window, user_window)
  local held = tonumber(redis.call('HGET', key('held'), pool))
  if not held then return nil end
  local function wait(before, places, used)
    if places == 0 then return 0 end
    return math.max(0, before + 1 - math.max(0, places - used)) * held / places
  end
  local mine = redis.call('ZRANK', key('lane', pool, user), id) or 0
  local live = redis.call('HMGET', key('limits'), 'pool:' .. pool, 'window', 'user:' .. user, 'user_window')
  return math.max(
    wait(ahead, tonumber(live[1] or redis.call('HGET', key('pools'), pool) or '0'), tonumber(redis.call('HGET', key('window', 'pools'), pool) or '0')),
    wait(ahead, tonumber(live[2] or window), redis.call('ZCARD', key('window'))),
    wait(mine, tonumber(live[3] or live[4] or user_window), tonumber(redis.call('HGET', key('window', 'users'), user) or '0')))
end
