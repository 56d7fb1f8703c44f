-- place.lua — how many jobs go before this one, when is its turn, and is it paused?
--
-- ARGV[1]  prefix
-- ARGV[2]  job id
-- ARGV[3]  window             jobs past the lanes at once, of everybody
-- ARGV[4]  user window        the same, of one user
--
-- Replies  {the number of jobs ahead, or -1 when the job does not wait in a lane; ms until its turn, or -1 when not known;
--          why an operator has paused it, "" when nobody has}
-- Cost     O(users in the ring of the pool).

local h = redis.call('HMGET', key('job', ARGV[2]), 'pool', 'user', 'workflow_id')
local ahead = h[1] and jobs_ahead(ARGV[2], h[1], h[2])
if not ahead then return {-1, -1, ''} end
local scope, pause = pause_of(h[2], h[3])
if scope then return {ahead, -1, pause.reason} end
local turn = turn_in(ARGV[2], h[1], h[2], ahead, ARGV[3], ARGV[4])
return {ahead, turn and math.ceil(turn) or -1, ''}
