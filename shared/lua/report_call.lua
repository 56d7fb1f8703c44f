-- report_call.lua — tell the circuit breaker how a call went: the API answered, or it is in trouble.
--
-- Why here: the breaker is one state of the account's bucket, shared by all workers like its tokens.
--
--   closed ── `threshold` failures in a row ──▶ open: no call at all ── time is up ──▶ half-open: one probe at a time
--     ▲                                              ▲                                      │ (take_tokens.lua)
--     └───────────── answered ───────────────────────┼──────────────────────────────────────┤
--                                                     └───────────── failed: twice as long ──┘
--
-- ARGV[1]  prefix
-- ARGV[2]  account
-- ARGV[3]  how                "answered" (anything but 429 and 5xx) | "failed"
-- ARGV[4]  threshold          failures in a row that open the breaker
-- ARGV[5]  pause              ms it stays open the first time; doubles with each failed probe
-- ARGV[6]  longest            ms; it never stays open longer
-- ARGV[7]  jitter             0..1, drawn by the caller: the pause is cut to between a half and all of itself
--
-- After a probe was answered calls begin gently, as after any pause (take_tokens.lua): nothing has gathered meanwhile.
--
-- Replies  {failures in a row, ms until calls may go again}
-- Clock    Redis TIME.
-- Cost     O(1). Calls that fail while the breaker is open began before it opened and count for nothing.

local bucket = key('budget', ARGV[2])
local t = redis.call('TIME')
local now = t[1] + t[2] / 1e6
local closed_until = tonumber(redis.call('HGET', bucket, 'closed_until') or '0')

if ARGV[3] == 'answered' then
  if tonumber(redis.call('HGET', bucket, 'failures') or '0') >= tonumber(ARGV[4]) and closed_until < now then
    redis.call('HSET', bucket, 'closed_until', string.format('%.6f', now))
  end
  redis.call('HDEL', bucket, 'failures', 'probing_until')
  return {0, math.max(0, math.ceil((closed_until - now) * 1000))}
end

local failures = tonumber(redis.call('HGET', bucket, 'failures') or '0')
if closed_until <= now then
  failures = redis.call('HINCRBY', bucket, 'failures', 1)
  redis.call('HDEL', bucket, 'probing_until')
  if failures >= tonumber(ARGV[4]) then
    if failures == tonumber(ARGV[4]) then redis.call('HINCRBY', bucket, 'opened', 1) end
    local pause = math.min(tonumber(ARGV[6]), ARGV[5] * 2 ^ math.min(failures - ARGV[4], 20))
    closed_until = now + pause * (0.5 + ARGV[7] / 2) / 1000
    redis.call('HSET', bucket, 'closed_until', string.format('%.6f', closed_until))
  end
end
return {failures, math.max(0, math.ceil((closed_until - now) * 1000))}
