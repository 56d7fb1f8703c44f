-- push_back.lua — the API said no: close the bucket for everyone until it may be asked again.
--
-- ARGV[1]  prefix
-- ARGV[2]  account
-- ARGV[3]  closed for         ms
-- ARGV[4]  slow down          "1" halves the rate (a 429; it recovers additively, see take_tokens.lua)
-- ARGV[5]  least factor       the rate is never cut below this part of itself
--
-- Replies  the ms from now until which the bucket is closed
-- Clock    Redis TIME.
-- Cost     O(1). A 429 that comes while the bucket is still closed belongs to the same trouble and halves nothing more.
--
-- The field `closed_until` outlives the pause, until the next call: from it that call knows to begin gently
-- (take_tokens.lua).

local bucket = key('budget', ARGV[2])
local t = redis.call('TIME')
local now = t[1] + t[2] / 1e6
local closed_until = tonumber(redis.call('HGET', bucket, 'closed_until') or '0')
local slow_down = ARGV[4] == '1' and closed_until <= now
closed_until = math.max(closed_until, now + ARGV[3] / 1000)
if slow_down then
  local factor = tonumber(redis.call('HGET', bucket, 'factor') or '1')
  -- The rate recovers from when calls go again: neither the pause nor the quiet time before it shows that all is well.
  redis.call('HSET', bucket, 'factor', tostring(math.max(tonumber(ARGV[5]), factor / 2)),
    'recovers_from', string.format('%.6f', closed_until))
  redis.call('HINCRBY', bucket, 'pushed_back', 1)
end
redis.call('HSET', bucket, 'closed_until', string.format('%.6f', closed_until))
return math.ceil((closed_until - now) * 1000)
