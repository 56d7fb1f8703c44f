-- drain.lua — tell a worker to take nothing new, or to take again.
--
-- ARGV[1]  prefix
-- ARGV[2]  worker             its node name
-- ARGV[3]  undo               "1" to take again
-- ARGV[4]  by                 JSON of {who, reason}
--
-- Replies  "told" | "already" (nothing changes)
-- Cost     O(1). Idempotent. The worker reads it within a second, and forgets it when it starts.

local told = redis.call('HGET', key('drains'), ARGV[2])
local undo = ARGV[3] == '1'
if undo == not told then return 'already' end
if undo then
  redis.call('HDEL', key('drains'), ARGV[2])
else
  redis.call('HSET', key('drains'), ARGV[2], ARGV[4])
end
audit(ARGV[4], undo and 'undo drain' or 'drain', ARGV[2], told or '', undo and '' or ARGV[4])
return 'told'
