-- settle_look.lua — end a look: set when each run is worth asking about again, and give the lease back.
--
-- ARGV[1]  prefix
-- ARGV[2]  workflow
-- ARGV[3]  owner              the owner given to claim_due
-- ARGV[4]  looked             JSON object: "<job id> <run id>" -> ms from now until it is worth a look of its own
-- ARGV[5]  put off            JSON object of the same form: runs that were not looked at, but can wait
-- ARGV[6]  looked at          ms: when the look began; "" for now
-- ARGV[7]  joined             JSON array of runs that were looked at and have no time of their own any more
-- ARGV[8]  common             ms from now until all runs without a time of their own are worth a look; "" leaves that
-- ARGV[9]  all                "1" when the look was at all runs but those put off
--
-- Replies  ms until the workflow is due again (-1: it has no runs in flight)
-- Clock    Redis TIME.
-- Cost     O(runs named * log runs). A run that became final meanwhile stays out (ZADD XX). An owner whose lease
--          went to another still records what it saw, but does not end the other's lease. A run that was nudged during
--          the look is due again at once.

local workflow = ARGV[2]
local inflight = key('inflight', workflow)
local now = now_ms()
local began = (ARGV[6] or '') ~= '' and tonumber(ARGV[6]) or now
local looked, common = together(workflow)
-- What came at the very millisecond of the look came after it.
if ARGV[9] == '1' then looked = math.max(looked, began - 1) end
if (ARGV[8] or '') ~= '' then common = now + ARGV[8] end

for member, delay in pairs(cjson.decode(ARGV[5] or '{}')) do
  if redis.call('HEXISTS', key('job', string.match(member, '^%S+')), 'hinted') == 0 then
    redis.call('ZADD', inflight, 'XX', int(now + delay), member)
  end
end
for member, delay in pairs(cjson.decode(ARGV[4])) do
  local job = key('job', string.match(member, '^%S+'))
  if redis.call('HDEL', job, 'hinted') == 1 then delay = 0 end
  if redis.call('ZADD', inflight, 'XX', 'CH', int(now + delay), member) == 1 then
    redis.call('HINCRBY', job, 'looks', 1)
    redis.call('HDEL', job, 'hinted_at')
    redis.call('HSET', job, 'looked_at', int(began))
  end
end
for _, member in ipairs(cjson.decode(ARGV[7] or '[]')) do
  local job = key('job', string.match(member, '^%S+'))
  local again = redis.call('HDEL', job, 'hinted') == 1
  redis.call('ZADD', inflight, 'XX', int(again and now or looked), member)
  redis.call('HDEL', job, 'hinted_at')
end
if looked > 0 then redis.call('HSET', key('together'), workflow, int(looked) .. ' ' .. int(common)) end

local lease = redis.call('HGET', key('looking'), workflow)
if lease and string.match(lease, ' (.*)$') == ARGV[3] then
  redis.call('HDEL', key('looking'), workflow)
end
reschedule(workflow)
local due = redis.call('ZSCORE', key('due'), workflow)
return due and math.max(0, tonumber(due) - now) or -1
