-- nudge.lua — look at a job's run now: a hint came in, or somebody asked for its cancellation.
--
-- ARGV[1]  prefix
-- ARGV[2]  job id
-- ARGV[3]  cancel             "1" also notes that cancellation was asked for
--
-- Replies  {"nudged", state} | {"noted", state} (no run yet; the note waits for it) | {"final", state} | {"missing", ""}
-- Clock    Redis TIME.
-- Cost     O(log runs). Idempotent: only ever moves a look forward.

local id = ARGV[2]
local job = key('job', id)
local h = redis.call('HMGET', job, 'state', 'workflow_id', 'run_id')
if not h[1] then return {'missing', ''} end
if FINAL[h[1]] then return {'final', h[1]} end
local now = now_ms()
if ARGV[3] == '1' then redis.call('HSETNX', job, 'cancel_requested_at', int(now)) end
if not h[3] then return {'noted', h[1]} end
redis.call('ZADD', key('inflight', h[2]), 'XX', 'LT', int(now), id .. ' ' .. h[3])
redis.call('ZADD', key('due'), 'LT', int(now), h[2])
return {'nudged', h[1]}
