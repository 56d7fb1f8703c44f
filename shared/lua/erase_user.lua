-- erase_user.lua — forget what is kept of a user besides his jobs, and write the erasure down.
--
-- ARGV[1]  prefix
-- ARGV[2]  user               `<frontend>:<id>`
-- ARGV[3]  told               JSON for the audit: how much of what was erased
-- ARGV[4]  by                 JSON of {who, reason}
--
-- Replies  "erased" | "open" (he has jobs that wait or run; they need what is kept. Only the audit is written)
-- Cost     O(pools * log users). A repeat is a second line in the audit.

local user = ARGV[2]
local scope = 'user:' .. user
local open = redis.call('HEXISTS', key('window', 'users'), user) == 1 or redis.call('HEXISTS', key('aside', 'users'), user) == 1
local pools = redis.call('HKEYS', key('pools'))
for _, pool in ipairs(pools) do
  open = open or redis.call('EXISTS', key('lane', pool, user)) == 1
end
audit(ARGV[4], 'erase', user, '', ARGV[3])
if open then return 'open' end
for _, pool in ipairs(pools) do
  redis.call('ZREM', key('ring', pool), user)
  redis.call('ZREM', key('turns', pool), user)
end
redis.call('DEL', key('jobs', user), key('step', user), key('parked', user), key('aside', scope))
local of_frontend = 'frontend:' .. string.match(user, '^[^:]*')
redis.call('ZREM', key('aside', of_frontend), user)
redis.call('SREM', key('returning'), scope)
for _, hash in ipairs({key('pauses'), key('paused'), key('limits')}) do redis.call('HDEL', hash, scope) end
return 'erased'
