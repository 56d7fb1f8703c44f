-- begin_callback.lua — begin one attempt to deliver a final job's callback: count it, and say what to send.
--
-- Why a script: an attempt that is not counted before it is made would be invisible when its worker dies.
--
-- ARGV[1]  prefix
-- ARGV[2]  job id
--
-- Replies  {"begun", url, secret, body, seq, attempt, ms of the first attempt, ms now, traceparent} |
--          {"decided"} (or the job is gone)
-- Clock    Redis TIME.
-- Cost     O(body). Not idempotent: a repeat counts one more attempt; nothing else changes.

local id = ARGV[2]
local job = key('job', id)
local h = redis.call('HMGET', job, 'callback_state', 'callback_url', 'seq', 'traceparent')
if h[1] ~= 'pending' then
  redis.call('ZREM', key('callbacks'), id)
  redis.call('DEL', key('callback', id))
  return {'decided'}
end
local c = redis.call('HMGET', key('callback', id), 'secret', 'body')
local now = now_ms()
redis.call('HSETNX', job, 'callback_since', int(now))
local attempt = redis.call('HINCRBY', job, 'callback_attempts', 1)
return {'begun', h[2], c[1], c[2], h[3], attempt, redis.call('HGET', job, 'callback_since'), int(now),
  h[4] or ''}
