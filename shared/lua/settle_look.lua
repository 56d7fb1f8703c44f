-- settle_look.lua — end a look: set when each run looked at is worth asking about again, and give the lease back.
--
-- ARGV[1]  prefix
-- ARGV[2]  workflow
-- ARGV[3]  owner              the owner given to claim_due
-- ARGV[4]  looked             JSON object: "<job id> <run id>" -> ms from now until it is worth the next look
-- ARGV[5]  put off            JSON object of the same form: runs that were not looked at, but can wait
-- ARGV[6]  looked at          ms: when the look began; "" for now
--
-- Replies  ms until the workflow is due again (-1: it has no runs in flight)
-- Clock    Redis TIME.
-- Cost     O(runs looked at * log runs). A run that became final meanwhile stays out (ZADD XX). An owner whose lease
--          went to another still records what it saw, but does not end the other's lease. A run that was nudged during
--          the look is due again at once.

local workflow = ARGV[2]
local now = now_ms()
for member, delay in pairs(cjson.decode(ARGV[5] or '{}')) do
  if redis.call('HEXISTS', key('job', string.match(member, '^%S+')), 'hinted') == 0 then
    redis.call('ZADD', key('inflight', workflow), 'XX', int(now + delay), member)
  end
end
for member, delay in pairs(cjson.decode(ARGV[4])) do
  local job = key('job', string.match(member, '^%S+'))
  if redis.call('HDEL', job, 'hinted') == 1 then delay = 0 end
  if redis.call('ZADD', key('inflight', workflow), 'XX', 'CH', int(now + delay), member) == 1 then
    redis.call('HINCRBY', job, 'looks', 1)
    redis.call('HDEL', job, 'hinted_at')
    redis.call('HSET', job, 'looked_at', (ARGV[6] or '') ~= '' and ARGV[6] or int(now))
  end
end
local lease = redis.call('HGET', key('looking'), workflow)
if lease and string.match(lease, ' (.*)$') == ARGV[3] then
  redis.call('HDEL', key('looking'), workflow)
end
reschedule(workflow)
local due = redis.call('ZSCORE', key('due'), workflow)
return due and math.max(0, tonumber(due) - now) or -1
