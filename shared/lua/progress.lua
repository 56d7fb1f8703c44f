-- progress.lua — announce how far a run is, if it is further than last time.
--
-- ARGV[1]  prefix
-- ARGV[2]  job id
-- ARGV[3]  fraction           0..1, or "" when only the text is known
-- ARGV[4]  progress           JSON of {fraction, text}
-- ARGV[5]  eta                seconds until the run has probably ended, "" when not known
-- ARGV[6]  milestone          what it shows for the first time, see shared/following/milestones.py; "" for nothing
--
-- Replies  {"announced", seq} | {"refused", state or "unchanged"} | {"missing", ""}
-- Clock    Redis TIME.
-- Cost     O(1). Idempotent: the same progress again is "unchanged". Only a running job has progress.

local job = key('job', ARGV[2])
local h = redis.call('HMGET', job, 'state', 'fraction', 'progress')
if not h[1] then return {'missing', ''} end
if h[1] ~= 'running' then return {'refused', h[1]} end
local before, now_at = tonumber(h[2] or '0'), tonumber(ARGV[3])
if h[3] == ARGV[4] or (now_at and now_at < before) then return {'refused', 'unchanged'} end
redis.call('HSET', job, 'progress', ARGV[4], 'fraction', now_at and ARGV[3] or tostring(before))
local now = now_ms()
if ARGV[6] ~= '' then redis.call('HSETNX', job, 'seen:' .. ARGV[6], int(now)) end
local seq = announce(ARGV[2], 'job.progress', now, {progress = ARGV[4], eta_seconds = ARGV[5] ~= '' and ARGV[5] or nil})
return {'announced', tostring(seq)}
