-- stamp.lua — note facts in a job's record that no event tells of, such as a newly learned workflow id.
--
-- ARGV[1]  prefix
-- ARGV[2]  job id
-- ARGV[3]  fields             JSON object of texts
--
-- Replies  1, or 0 when there is no such job (a forgotten job must not come back as a fragment)
-- Cost     O(fields). Idempotent.

local job = key('job', ARGV[2])
if redis.call('EXISTS', job) == 0 then return 0 end
for name, value in pairs(cjson.decode(ARGV[3])) do
  redis.call('HSET', job, name, value)
end
return 1
