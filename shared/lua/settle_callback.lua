-- settle_callback.lua — note what became of an attempt to deliver a callback: it is decided, or due again.
--
-- Why a script: a callback that is decided but still due would be sent for ever, one that is neither never again.
--
-- ARGV[1]  prefix
-- ARGV[2]  job id
-- ARGV[3]  outcome            `delivered`, `failed` (given up) or `again`
-- ARGV[4]  delay              ms: `again` -> until the next attempt; otherwise the job's record is kept this long
-- ARGV[5]  status             HTTP status of the answer, "" when there was none
-- ARGV[6]  error              why it was not delivered, "" when it was
--
-- Replies  "noted" | "decided" (by another before; nothing changes)
-- Clock    Redis TIME.
-- Cost     O(log callbacks). Repeating it changes nothing but the time of the next attempt.

local id, outcome, delay = ARGV[2], ARGV[3], tonumber(ARGV[4])
local job = key('job', id)
if redis.call('HGET', job, 'callback_state') ~= 'pending' then return 'decided' end
redis.call('HSET', job, 'callback_status', ARGV[5], 'callback_error', ARGV[6])
if outcome == 'again' then
  local next_at = int(now_ms() + delay)
  redis.call('HSET', job, 'callback_next_at', next_at)
  redis.call('ZADD', key('callbacks'), next_at, id)
  return 'noted'
end
redis.call('HSET', job, 'callback_state', outcome)
redis.call('HDEL', job, 'callback_next_at')
redis.call('ZREM', key('callbacks'), id)
redis.call('DEL', key('callback', id))
redis.call('PEXPIRE', job, delay)
return 'noted'
