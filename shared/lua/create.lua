-- create.lua — accept one job into its user's lane and announce it, or find the job this idempotency key stands for.
--
-- Why a script: a crash between the record, the lane and the event would leave a job nobody runs or nobody hears of.
--
-- ARGV[1]  prefix
-- ARGV[2]  job id             a new UUIDv7
-- ARGV[3]  fields             JSON object of texts: frontend, user, pool, workflow_id, deployment_id, label, request, wants_progress,
--                             tier (one of few, for metrics), traceparent (of its trace), echo (JSON fragment with workflow,
--                             user, context and meta for the events); of a job with a callback also callback_url and
--                             callback_secret; of a user whose tier weighs more, step
-- ARGV[4]  priority           0-9
-- ARGV[5]  pool limit         jobs past the lanes in this pool at once; 0 for no limit
-- ARGV[6]  queue timeout      seconds until the job expires in its lane
-- ARGV[7]  idempotency key    "" for none
-- ARGV[8]  idempotency life   seconds
-- ARGV[9]  window             jobs past the lanes at once, of everybody; only to tell when it will be this one's turn
-- ARGV[10] user window        the same, of one user
-- ARGV[11] run                seconds such a run takes from its submit to its end, "" when that is not known
-- ARGV[12] most open          jobs of this user that have not ended, this one included; 0 for no limit
-- ARGV[13] listing life       seconds after which a user who asked for nothing more has no job left
--
-- Replies  {"created", job id} | {"exists", job id} | {"full", open jobs} (nothing was written)
-- Clock    Redis TIME.
-- Cost     O(log waiting jobs + users in the ring of the pool), with a limit also O(pools). Repeating with the same
--          idempotency key changes nothing.

local id, f = ARGV[2], cjson.decode(ARGV[3])
local idem = ARGV[7] ~= '' and key('idem', f.frontend, ARGV[7])
local known = idem and redis.call('GET', idem)
if known then return {'exists', known} end
if redis.call('EXISTS', key('job', id)) == 1 then return {'exists', id} end

local most = tonumber(ARGV[12] or '0')
if most > 0 then
  local open = tonumber(redis.call('HGET', key('window', 'users'), f.user) or '0')
  open = open + tonumber(redis.call('HGET', key('aside', 'users'), f.user) or '0')
  for _, pool in ipairs(redis.call('HKEYS', key('pools'))) do
    open = open + redis.call('ZCARD', key('lane', pool, f.user))
  end
  if open >= most then return {'full', int(open)} end
end
if idem then redis.call('SET', idem, id, 'EX', ARGV[8]) end

-- Of all equal scores the ids sort by age. Each job that comes makes two that are kept no longer leave, so the listing of
-- somebody who never asks for it stays short, too.
local mine = key('jobs', f.user)
for _, old in ipairs(redis.call('ZRANGE', mine, 0, 1)) do
  if redis.call('EXISTS', key('job', old)) == 0 then redis.call('ZREM', mine, old) end
end
redis.call('ZADD', mine, 0, id)
redis.call('EXPIRE', mine, ARGV[13] or '864000')

local now = now_ms()
redis.call('HSET', key('job', id), 'id', id, 'state', 'queued', 'seq', 0, 'created_at', int(now),
  'expires_at', int(now + ARGV[6] * 1000), 'priority', ARGV[4], 'frontend', f.frontend, 'user', f.user, 'pool', f.pool, 'workflow_id', f.workflow_id,
  'deployment_id', f.deployment_id, 'label', f.label, 'request', f.request, 'echo', f.echo,
  'wants_progress', f.wants_progress or '', 'tier', f.tier or 'none', 'traceparent', f.traceparent or '')
if f.callback_url then
  redis.call('HSET', key('job', id), 'callback_url', f.callback_url, 'callback_state', 'pending')
  redis.call('HSET', key('callback', id), 'secret', f.callback_secret)
end
redis.call('SADD', key('frontends'), f.frontend)
redis.call('HSET', key('pools'), f.pool, ARGV[5])
if f.step then
  redis.call('SET', key('step', f.user), f.step, 'EX', ARGV[13] or '864000')
else
  redis.call('DEL', key('step', f.user))
end
enter_lane(id, f.pool, f.user)
-- How long jobs like this were paused before it came does not count for it.
local paused_before = paused_ms(f.user, f.workflow_id, now)
if paused_before > 0 then redis.call('HSET', key('job', id), 'paused_before', int(paused_before)) end

local ahead = jobs_ahead(id, f.pool, f.user)
local scope, pause = pause_of(f.user, f.workflow_id)
local turn = not scope and turn_in(id, f.pool, f.user, ahead, ARGV[9], ARGV[10])
local place = string.format('{"position":%d,"ahead":%d,"eta_seconds":%s,"paused":%s}', ahead + 1, ahead,
  turn and string.format('%.1f', turn / 1000) or 'null', scope and cjson.encode(pause.reason) or 'null')
local eta = turn and ARGV[11] ~= '' and string.format('%.1f', turn / 1000 + ARGV[11]) or nil
local _, entry = announce(id, 'job.queued', now, {queue = place, eta_seconds = eta})
redis.call('HSET', key('job', id), 'first_event', entry)
return {'created', id}
