-- give_back.lua — put a dispatched job that nobody started back into its old place in the lane.
--
-- ARGV[1]  prefix
-- ARGV[2]  job id
--
-- Replies  "given back" | "not dispatched"
-- Cost     O(log jobs). Idempotent. No event: for the frontend the job never stopped waiting.

local id = ARGV[2]
local h = redis.call('HMGET', key('job', id), 'state', 'user', 'pool')
if h[1] ~= 'queued' or not redis.call('ZSCORE', key('window'), id) then return 'not dispatched' end
release(id, h[3], h[2])
enter_lane(id, h[3], h[2])
return 'given back'
