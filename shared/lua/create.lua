-- create.lua — accept one job into its user's lane and announce it, or find the job this idempotency key stands for.
--
-- Why a script: a crash between the record, the lane and the event would leave a job nobody runs or nobody hears of.
--
-- ARGV[1]  prefix
-- ARGV[2]  job id             a new UUIDv7
-- ARGV[3]  fields             JSON object of texts: frontend, user, pool, workflow_id, deployment_id, label, request,
--                             echo (JSON fragment with workflow, user, context and meta for the events); of a job with
--                             a callback also callback_url and callback_secret
-- ARGV[4]  priority           0-9
-- ARGV[5]  pool limit         jobs past the lanes in this pool at once; 0 for no limit
-- ARGV[6]  queue timeout      seconds until the job expires in its lane
-- ARGV[7]  idempotency key    "" for none
-- ARGV[8]  idempotency life   seconds
-- ARGV[9]  window             jobs past the lanes at once, of everybody; only to tell when it will be this one's turn
-- ARGV[10] user window        the same, of one user
-- ARGV[11] run                seconds such a run takes from its submit to its end, "" when that is not known
--
-- Replies  {"created", job id} | {"exists", job id}
-- Clock    Redis TIME.
-- Cost     O(log waiting jobs + users in the ring of the pool). Repeating with the same idempotency key changes nothing.

local id, f = ARGV[2], cjson.decode(ARGV[3])
if ARGV[7] ~= '' then
  local idem = key('idem', f.frontend, ARGV[7])
  local known = redis.call('GET', idem)
  if known then return {'exists', known} end
  redis.call('SET', idem, id, 'EX', ARGV[8])
end
if redis.call('EXISTS', key('job', id)) == 1 then return {'exists', id} end

local now = now_ms()
redis.call('HSET', key('job', id), 'id', id, 'state', 'queued', 'seq', 0, 'created_at', int(now),
  'expires_at', int(now + ARGV[6] * 1000), 'priority', ARGV[4], 'frontend', f.frontend, 'user', f.user, 'pool', f.pool, 'workflow_id', f.workflow_id,
  'deployment_id', f.deployment_id, 'label', f.label, 'request', f.request, 'echo', f.echo)
if f.callback_url then
  redis.call('HSET', key('job', id), 'callback_url', f.callback_url, 'callback_state', 'pending')
  redis.call('HSET', key('callback', id), 'secret', f.callback_secret)
end
redis.call('SADD', key('frontends'), f.frontend)
redis.call('HSET', key('pools'), f.pool, ARGV[5])
enter_lane(id, f.pool, f.user)

local ahead = jobs_ahead(id, f.pool, f.user)
local turn = turn_in(id, f.pool, f.user, ahead, ARGV[9], ARGV[10])
local place = string.format('{"position":%d,"ahead":%d,"eta_seconds":%s}', ahead + 1, ahead,
  turn and string.format('%.1f', turn / 1000) or 'null')
local eta = turn and ARGV[11] ~= '' and string.format('%.1f', turn / 1000 + ARGV[11]) or nil
local _, entry = announce(id, 'job.queued', now, {queue = place, eta_seconds = eta})
redis.call('HSET', key('job', id), 'first_event', entry)
return {'created', id}
