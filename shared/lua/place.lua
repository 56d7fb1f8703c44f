-- place.lua — how many jobs go before this one?
--
-- ARGV[1]  prefix
-- ARGV[2]  job id
--
-- Replies  the number of jobs ahead, or -1 when the job does not wait in a lane
-- Cost     O(users in the ring of the pool).

local h = redis.call('HMGET', key('job', ARGV[2]), 'pool', 'user')
if not h[1] then return -1 end
return jobs_ahead(ARGV[2], h[1], h[2]) or -1
