-- hold.lua — let one submit task work on a dispatched job, and say again and again that it still does.
--
-- Why a script: the broker may deliver a message twice, and rescue may have sent another; two tasks on one job would
-- spend two tokens and, without the states' guard, make two runs.
--
-- ARGV[1]  prefix
-- ARGV[2]  job id
-- ARGV[3]  holder             who works on it; no blanks
-- ARGV[4]  lease              ms; a holder that does not come back by then is taken for dead and the job is rescued
--
-- Replies  {"held", state} | {"busy", state} (another holds it) | {"refused", state} (not dispatched, or past submitting)
--          | {"missing", ""}
-- Clock    Redis TIME.
-- Cost     O(log starting jobs). Repeating it as the same holder renews the lease.

local job = key('job', ARGV[2])
local h = redis.call('HMGET', job, 'state', 'holder')
if not h[1] then return {'missing', ''} end
if (h[1] ~= 'queued' and h[1] ~= 'submitting') or not redis.call('ZSCORE', key('window'), ARGV[2]) then
  return {'refused', h[1]}
end
local now = now_ms()
local held_until, holder = string.match(h[2] or '', '^(%d+) (.*)$')
if holder and holder ~= ARGV[3] and tonumber(held_until) > now then return {'busy', h[1]} end
redis.call('HSET', job, 'holder', int(now + ARGV[4]) .. ' ' .. ARGV[3])
redis.call('ZADD', key('starting'), int(now + ARGV[4]), ARGV[2])
return {'held', h[1]}
