-- begin_errand.lua — begin one attempt at what is left to do for a final job: count it, and say what is needed for it.
--
-- Why a script: an attempt that is not counted before it is made would be invisible when its worker dies.
--
-- ARGV[1]  prefix
-- ARGV[2]  job id
-- ARGV[3]  errand             `callback` or `archive`
--
-- Replies  {"begun", attempt, ms of the first attempt, ms now, seq, traceparent}, of a callback also url, secret, body
--          | {"decided"} (or the job is gone)
-- Clock    Redis TIME.
-- Cost     O(body). Not idempotent: a repeat counts one more attempt; nothing else changes.

local id, errand = ARGV[2], ARGV[3]
local job = key('job', id)
local h = redis.call('HMGET', job, errand .. '_state', 'seq', 'traceparent', 'callback_url')
if h[1] ~= 'pending' then
  redis.call('ZREM', key(errand .. 's'), id)
  if errand == 'callback' then redis.call('DEL', key('callback', id)) end
  return {'decided'}
end
local now = now_ms()
redis.call('HSETNX', job, errand .. '_since', int(now))
local attempt = redis.call('HINCRBY', job, errand .. '_attempts', 1)
local reply = {'begun', attempt, redis.call('HGET', job, errand .. '_since'), int(now), h[2],
  h[3] or ''}
if errand == 'callback' then
  local c = redis.call('HMGET', key('callback', id), 'secret', 'body')
  reply[7], reply[8], reply[9] = h[4], c[1], c[2]
end
return reply
