-- claim_due.lua — take the workflows whose look is due, for the length of a lease.
--
-- Why a script: every worker asks, and one of them shall look.
--
-- ARGV[1]  prefix
-- ARGV[2]  owner              who claims; no blanks
-- ARGV[3]  most               workflows to take at the most
-- ARGV[4]  lease              ms; a look that takes longer, or a killed worker, loses its claim then
--
-- Replies  {ms until the next workflow is due (-1: none is known), workflow, ...}
-- Clock    Redis TIME.
-- Cost     O(due workflows). A workflow under another's lease is passed over and comes up again when the lease ends.

local now = now_ms()
local reply = {-1}
local ids = redis.call('ZRANGEBYSCORE', key('due'), '-inf', now, 'LIMIT', 0, 1000)
for _, workflow in ipairs(ids) do
  if #reply > tonumber(ARGV[3]) then break end
  local held_until = tonumber(string.match(redis.call('HGET', key('looking'), workflow) or '0', '^%d+'))
  if held_until <= now then
    redis.call('HSET', key('looking'), workflow, int(now + ARGV[4]) .. ' ' .. ARGV[2])
    reply[#reply + 1] = workflow
  end
end
local following = redis.call('ZRANGEBYSCORE', key('due'), '(' .. int(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if following[2] then reply[1] = tonumber(following[2]) - now end
return reply
