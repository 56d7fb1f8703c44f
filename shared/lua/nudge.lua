-- nudge.lua — look at a job's run now: a hint came in, or somebody asked for its cancellation.
--
-- ARGV[1]  prefix
-- ARGV[2]  job id
-- ARGV[3]  cancel             "1" also notes that cancellation was asked for
-- ARGV[4]  run id             the run a hint named, "" when it named none
-- ARGV[5]  goes on            "1" when the hint says the run goes on: a reason to look only when somebody asked for progress
--                             and the run is not known to have started
--
-- Replies  {"nudged", state} | {"noted", state} (no run yet, the note waits for it; or no reason to look) | {"final", state} | {"missing", ""}
-- Clock    Redis TIME.
-- Cost     O(log runs). Idempotent: only ever moves a look forward. What a hint says is believed by nobody before a look
--          has confirmed it: a run it names is looked at first when an unanswered submit is settled, and a run it
--          names beside the job's own goes to the strays.

local id, hinted = ARGV[2], ARGV[4] or ''
local job = key('job', id)
local h = redis.call('HMGET', job, 'state', 'workflow_id', 'run_id', 'wants_progress')
local state, run = h[1], h[3]
if not state then return {'missing', ''} end
local now = now_ms()
if hinted ~= '' and (run and run ~= hinted or FINAL[state] and not run) then
  redis.call('ZADD', key('strays'), 'NX', int(now), id .. ' ' .. hinted)
end
if FINAL[state] then return {'final', state} end
if ARGV[3] == '1' then redis.call('HSETNX', job, 'cancel_requested_at', int(now)) end
if not run then
  if hinted ~= '' then
    local before = redis.call('HGET', job, 'hinted_run')
    if before and before ~= '' and before ~= hinted then
      redis.call('ZADD', key('strays'), 'NX', int(now), id .. ' ' .. before)
    end
    redis.call('HSET', job, 'hinted_run', hinted)
    if state == 'submitting' then
      -- Whoever holds it only waits for an answer, or to search again: searching beside it is safe, and sooner.
      redis.call('HDEL', job, 'holder')
      redis.call('ZADD', key('starting'), 'XX', 'LT', int(now), id)
    end
  end
  return {'noted', state}
end
if ARGV[5] == '1' and (h[4] ~= '1' or state ~= 'submitted') then return {'noted', state} end
if ARGV[3] ~= '1' then redis.call('HSETNX', job, 'hinted_at', int(now)) end
local inflight, member = key('inflight', h[2]), id .. ' ' .. run
local own, looked = tonumber(redis.call('ZSCORE', inflight, member) or nil), together(h[2])
if own and (own > now or own <= looked) then redis.call('ZADD', inflight, int(now), member) end
-- A look that is under way may have asked before the news: it must not put the next one off (settle_look.lua).
if own and own > looked and redis.call('HEXISTS', key('looking'), h[2]) == 1 then redis.call('HSET', job, 'hinted', '1') end
reschedule(h[2])
return {'nudged', state}
