-- requeue.lua — have a stuck job taken up again, wherever it is stuck; nothing is posted while a run of it may exist.
--
-- Why a script: what to do depends on where the job is at this very moment.
--
-- ARGV[1]  prefix
-- ARGV[2]  job id
-- ARGV[3]  by                 JSON of {who, reason}
--
-- Replies  {"waiting", ""} (in its lane, nothing to do) | {"laned", ""} (it stood nowhere, and is in its lane again)
--          | {"rescued", state} (dispatched or submitting: a worker takes it up within seconds; in `submitting` it looks for
--          a run before anything else) | {"looked", run} (its run is looked at now, and followed) | {"final", state}
--          | {"missing", ""}
-- Clock    Redis TIME.
-- Cost     O(log jobs). A repeat does the same again. Two tasks on one job are safe: one move to `submitting` is granted.

local id = ARGV[2]
local job = key('job', id)
local h = redis.call('HMGET', job, 'state', 'user', 'pool', 'workflow_id', 'run_id')
local state, user, pool = h[1], h[2], h[3]
if not state then return {'missing', ''} end
if FINAL[state] then return {'final', state} end
local now = now_ms()

local function done(word, detail)
  audit(ARGV[3], 'requeue', id, state, word)
  return {word, detail}
end

if h[5] then
  redis.call('ZADD', key('inflight', h[4]), int(now), id .. ' ' .. h[5])
  reschedule(h[4])
  return done('looked', h[5])
end
if state == 'submitting' and redis.call('ZADD', key('window'), 'NX', int(now), id) == 1 then
  redis.call('HINCRBY', key('window', 'users'), user, 1)
  redis.call('HINCRBY', key('window', 'pools'), pool, 1)
end
if redis.call('ZSCORE', key('window'), id) then
  redis.call('HDEL', job, 'holder')
  redis.call('ZADD', key('starting'), int(now), id)
  return done('rescued', state)
end
if jobs_ahead(id, pool, user) then return {'waiting', ''} end
redis.call('HDEL', job, 'aside')
enter_lane(id, pool, user)
return done('laned', '')
