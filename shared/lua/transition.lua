-- transition.lua — move one job to its next state and announce it, or change nothing.
--
-- Why a script: a state without its event (or the reverse) would leave a frontend waiting forever, and a state that
-- disagrees with lanes, windows and the due-set would leave a job nobody looks at.
--
-- ARGV[1]  prefix
-- ARGV[2]  job id
-- ARGV[3]  from               comma list of states the caller believes possible
-- ARGV[4]  to                 the new state
-- ARGV[5]  event type         "" for a move nobody needs to hear of
-- ARGV[6]  fields             JSON object of texts merged into the job; progress, result, error and timing also go
--                             into the event, as does eta_seconds; that of `submitted` is kept as `promised_at`;
--                             `archive_state` = `pending` has the outputs of a job that ends archived
-- ARGV[7]  delay              ms: `submitted` -> the first look comes after this long; a final state -> the record is
--                             kept this long, or from when nothing is left to do for it; otherwise not read
-- ARGV[8]  attempt            the attempt the caller speaks of, "" for any: a move that is repeated after its answer was
--                             lost must not take back the next attempt
-- ARGV[9]  unless paused      "1": a job that an operator has paused goes back to its lane instead of to `submitting`
-- ARGV[10] by                 an operator who does this, JSON of {who, reason}; "" for anybody else. It is written into the audit, and
--                             a run that goes on without its job goes to the strays, as does one that may exist (`?`)
--
-- Replies  {"moved", seq, tier, what, ms, what, ms…}: how long it was in the state it left, for metrics; of a queued job that
--          was dispatched in two parts, `queued` and `dispatched`; of one that ends also its whole life, `life`
--          | {"refused", state} | {"missing", ""} | {"paused", scope}
-- Clock    Redis TIME. The time of the move is stored as `<to>_at` (`final_at` for final states).
-- Cost     O(fields + log jobs). Idempotent: repeating a move that happened replies "refused" with the state it wanted,
--          unless that state is itself in `from`. The clock of a queue timeout stands still in a pause: the move to `expired` is
--          refused, and put off, as long as pauses have kept the job from its turn for as much as it is late.

local id, to, delay = ARGV[2], ARGV[4], tonumber(ARGV[7])
local job = key('job', id)
local h = redis.call('HMGET', job, 'state', 'user', 'pool', 'workflow_id', 'run_id', 'cancel_requested_at',
  'hinted_run', 'attempt', 'callback_url', 'tier', 'created_at', 'queued_at',
  'submitting_at', 'submitted_at', 'started_at')
local state, user, pool, workflow, run, hinted, callback = h[1], h[2], h[3], h[4], h[5], h[7], h[9]
if not state then return {'missing', ''} end
if FINAL[state] or not string.find(',' .. ARGV[3] .. ',', ',' .. state .. ',', 1, true) then
  return {'refused', state}
end

if (ARGV[8] or '') ~= '' and h[8] ~= ARGV[8] then return {'refused', state} end

-- A message about a job that went back to its lane meanwhile is late: only dispatched jobs are started.
local dispatched = redis.call('ZSCORE', key('window'), id)
if to == 'submitting' and not dispatched then return {'refused', state} end

local now = now_ms()
if to == 'expired' then
  local t = redis.call('HMGET', job, 'expires_at', 'paused_before')
  local credit = paused_ms(user, workflow, now) - tonumber(t[2] or '0')
  local left = tonumber(t[1]) + credit - now
  if credit > 0 and left > 0 then
    redis.call('ZADD', key('expiring'), 'XX', int(now + math.max(left, pause_of(user, workflow) and 5000 or 0)), id)
    return {'refused', state}
  end
end

local fields = cjson.decode(ARGV[6])
workflow, run = fields.workflow_id or workflow, fields.run_id or run
-- Before the first write: a script that fails half way is not taken back.
if to == 'submitted' and not run then error('submitted needs a run_id') end
if to == 'submitting' and ARGV[9] == '1' then
  local scope = pause_of(user, workflow)
  if scope then
    -- What the caller has found out: else dispatch would take the job of a paused workflow for another's.
    redis.call('HSET', job, 'workflow_id', workflow, 'deployment_id', fields.deployment_id or '')
    release(id, pool, user)
    enter_lane(id, pool, user)
    return {'paused', scope}
  end
end
-- How long it was where it was.
local took = {}
local function lasted(what, since, till)
  took[#took + 1] = what
  took[#took + 1] = int(math.max(0, till - (since or till)))
end
if state == 'queued' then
  lasted(state, h[12] or h[11], dispatched or now)
  if dispatched then lasted('dispatched', dispatched, now) end
else
  lasted(state, ({submitting = h[13], submitted = h[14], running = h[15]})[state], now)
end
if FINAL[to] then lasted('life', h[11], now) end

fields.state = to
fields[(FINAL[to] and 'final' or to == 'running' and 'started' or to) .. '_at'] = int(now)
local flat = {}
for name, value in pairs(fields) do
  flat[#flat + 1] = name
  flat[#flat + 1] = value
end
redis.call('HSET', job, unpack(flat))

if to == 'submitted' and fields.eta_seconds then
  redis.call('HSET', job, 'promised_at', int(now + fields.eta_seconds * 1000))
end

if to == 'submitting' then
  redis.call('HINCRBY', job, 'attempt', 1)
elseif to == 'queued' then
  release(id, pool, user)
  enter_lane(id, pool, user)
elseif to == 'submitted' then
  redis.call('SET', key('run', run), id, 'EX', 86400)
  redis.call('ZREM', key('starting'), id)
  redis.call('HDEL', job, 'holder')
  redis.call('ZADD', key('inflight', workflow), int(now + (h[6] and 0 or delay)), id .. ' ' .. run)
  reschedule(workflow)
elseif to == 'running' then
  redis.call('ZADD', key('running'), int(now), id)
elseif FINAL[to] then
  leave_lane(id, pool, user, h[10])
  redis.call('ZREM', key('running'), id)
  local since = redis.call('ZSCORE', key('window'), id)
  if since then
    -- The pace of the pool, for those who wait (turn_in): the last ten make up two thirds of the mean.
    local before = tonumber(redis.call('HGET', key('held'), pool) or now - since)
    redis.call('HSET', key('held'), pool, int(before + 0.1 * (now - since - before)))
  end
  release(id, pool, user)
  if run then
    redis.call('ZREM', key('inflight', workflow), id .. ' ' .. run)
    reschedule(workflow)
  end
  redis.call('ZADD', key('closing'), int(now), id)
  forget_in(id, delay)
  if fields.archive_state then
    redis.call('HSET', job, 'archive_next_at', int(now))
    redis.call('ZADD', key('archives'), int(now), id)
  end
end

-- A hint named a run, and it did not become the job's: it may carry the job's id and be paid for.
if hinted and hinted ~= '' and hinted ~= run and (to == 'submitted' or FINAL[to] and not run) then
  redis.call('ZADD', key('strays'), 'NX', int(now), id .. ' ' .. hinted)
end

if (ARGV[10] or '') ~= '' then
  audit(ARGV[10], to, id, state, to)
  if FINAL[to] and (run or state == 'submitting') then
    redis.call('ZADD', key('strays'), 'NX', int(now), id .. ' ' .. (run or '?'))
  end
end

local seq = redis.call('HGET', job, 'seq')
local entry, data
if ARGV[5] ~= '' then seq, entry, data = announce(id, ARGV[5], now, fields) end
if FINAL[to] and callback then
  -- Its own copy: the stream is trimmed after an hour, the callback is tried for a day.
  redis.call('HSET', key('callback', id), 'body', data)
  redis.call('HSET', job, 'callback_next_at', int(now))
  redis.call('ZADD', key('callbacks'), int(now), id)
end
return {'moved', tostring(seq), h[10] or 'none', unpack(took)}
