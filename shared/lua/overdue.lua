-- overdue.lua — take from one of the time-ordered sets what has waited too long, and look again later.
--
-- ARGV[1]  prefix
-- ARGV[2]  set                `starting` (to rescue), `expiring` (to expire), `closing` (to close the Celery row),
--                             `strays` (to check runs that are not their job's own), `callbacks` (to deliver)
--                             or `archives` (to copy)
-- ARGV[3]  most               jobs to take at the most
-- ARGV[4]  again              ms until a job that is still in the set is taken again
--
-- Replies  job ids, the most overdue first
-- Clock    Redis TIME.
-- Cost     O(taken * log set). A lease for each job: whoever takes one has `again` to repair it, then another may.

local now = now_ms()
local ids = redis.call('ZRANGEBYSCORE', key(ARGV[2]), '-inf', now, 'LIMIT', 0, ARGV[3])
for _, id in ipairs(ids) do
  redis.call('ZADD', key(ARGV[2]), int(now + ARGV[4]), id)
end
return ids
