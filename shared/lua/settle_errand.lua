-- settle_errand.lua — note what became of an attempt at what is left to do for a final job: it is decided, or due again.
--
-- Why a script: one that is decided but still due would be repeated for ever, one that is neither never done again.
--
-- ARGV[1]  prefix
-- ARGV[2]  job id
-- ARGV[3]  errand             `callback` or `archive`
-- ARGV[4]  outcome            `again`, or the word it is decided with: `delivered`, `kept`, `failed` (given up)
-- ARGV[5]  delay              ms: `again` -> until the next attempt; otherwise the job's record is kept this long, once
--                             nothing else is left to do for it
-- ARGV[6]  fields             JSON object of texts merged into the job: what the attempt found out
--
-- Replies  "noted" | "decided" (by another before; nothing changes) | "gone" (no such job; nothing changes)
-- Clock    Redis TIME.
-- Cost     O(fields + log errands). Repeating it changes nothing but the time of the next attempt.

local id, errand, outcome, delay = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local job = key('job', id)
local state = redis.call('HGET', job, errand .. '_state')
if state ~= 'pending' then return redis.call('EXISTS', job) == 1 and 'decided' or 'gone' end
for name, value in pairs(cjson.decode(ARGV[6])) do
  redis.call('HSET', job, name, value)
end
if outcome == 'again' then
  local next_at = int(now_ms() + delay)
  redis.call('HSET', job, errand .. '_next_at', next_at)
  redis.call('ZADD', key(errand .. 's'), next_at, id)
  return 'noted'
end
redis.call('HSET', job, errand .. '_state', outcome)
redis.call('HDEL', job, errand .. '_next_at')
redis.call('ZREM', key(errand .. 's'), id)
if errand == 'callback' then redis.call('DEL', key('callback', id)) end
forget_in(id, delay)
return 'noted'
