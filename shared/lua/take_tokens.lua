-- take_tokens.lua — may we ask the API once more? Takes one token of the account's bucket, or says how long to wait.
--
-- Why a script: all workers share the budget, and none may see a token another is taking.
--
-- The bucket fills at `rate` up to `burst`. Each class (submit, look, catalog, cancel) also owns a small floor that
-- fills at its share of the rate; what stands in the others' floors is not for taking, so no class can starve another,
-- and once a floor is full its share flows on to whoever wants it: nothing is wasted.
--
-- A pause (push_back.lua, report_call.lua) ends gently. What has gathered by its end counts as one at most, in the bucket
-- and in each floor, and fills from there: a full burst, from all workers in the same millisecond, is the worst an API can
-- meet that has just asked for less or just come back. Each class keeps the right to one, so that pauses close to each
-- other starve none.
--
-- ARGV[1]  prefix
-- ARGV[2]  account
-- ARGV[3]  class
-- ARGV[4]  rate               tokens per second, unless an operator has set `rate` in the hash
-- ARGV[5]  burst              tokens the bucket holds, unless an operator has set `burst` in the hash: floors shrink with
--                             a smaller one (else nothing would ever stand above them), and it counts as one a class and one
--                             more at the least
-- ARGV[6]  floors             JSON: class -> {share of the rate, most tokens}
-- ARGV[7]  recovery           how much of the rate a second without 429 gives back (additive increase)
--
-- ARGV[8]  threshold          failures in a row from which on only probes are let through, see report_call.lua
-- ARGV[9]  probe lease        seconds; a probe that was not reported by then is taken for lost
-- ARGV[10] retries            share of the rate that repeated submits may use, "" when this call repeats none
-- ARGV[11] most retries       tokens the retry budget holds after a time without retries
--
-- Replies  {1, n} granted; the n calls before it failed in a row | {0, ms} not now: the wait after which it would be
--          granted, if nobody else came
-- Clock    Redis TIME, in microseconds here: at 1,000 tokens a second a millisecond is a token.
-- Cost     O(classes), one round trip. Not idempotent: every grant spends.

local bucket = key('budget', ARGV[2])
local class, floors = ARGV[3], cjson.decode(ARGV[6])
local t = redis.call('TIME')
local now = t[1] + t[2] / 1e6

local h = {}
local stored = redis.call('HGETALL', bucket)
for i = 1, #stored, 2 do h[stored[i]] = stored[i + 1] end

local closed_until = tonumber(h.closed_until or '0')
if closed_until > now then return {0, math.ceil((closed_until - now) * 1000)} end

-- Half-open: the API was in trouble a moment ago, and one call shall find out whether it still is.
local failures = tonumber(h.failures or '0')
local probing = failures >= tonumber(ARGV[8])
local probing_until = tonumber(h.probing_until or '0')
if probing and probing_until > now then return {0, math.ceil((probing_until - now) * 1000)} end

local burst, classes, cap = tonumber(h.burst or ARGV[5]), 0, {}
for name, floor in pairs(floors) do
  cap[name] = math.min(floor[2], math.max(1, floor[2] * burst / ARGV[5]))
  classes = classes + 1
end
burst = math.max(burst, classes + 1)
-- A clock that was set back refills nothing twice, and the bucket goes on from there.
local at = math.min(now, tonumber(h.at or h.closed_until or now))
local recovering = math.min(now - at, math.max(0, now - tonumber(h.recovers_from or '0')))
local factor = math.min(1, tonumber(h.factor or '1') + recovering * tonumber(ARGV[7]))
local rate = tonumber(h.rate or ARGV[4]) * factor

local function filled(stored_amount, most, per_second)
  local amount, from = tonumber(stored_amount or most), at
  if h.closed_until then
    amount = math.min(1, amount + math.max(0, closed_until - at) * per_second)
    from = math.max(at, closed_until)
  end
  return math.min(most, amount + (now - from) * per_second)
end

local tokens = filled(h.tokens, burst, rate)
local reserved, filling = 0, 0
local level = {}
for name, floor in pairs(floors) do
  level[name] = filled(h['floor:' .. name], cap[name], rate * floor[1])
  if name ~= class then
    reserved = reserved + level[name]
    if level[name] < cap[name] then filling = filling + floor[1] end
  end
end

-- The retry budget: what was refused before may not crowd out what was not tried yet.
local retries, missing = nil, 0
if (ARGV[10] or '') ~= '' then
  retries = math.min(tonumber(ARGV[11]), tonumber(h.retries or ARGV[11]) + (now - tonumber(h.retried_at or now)) * rate * ARGV[10])
  missing = math.max(0, 1 - retries) / (rate * ARGV[10])
end

local own = level[class]
local reply
if missing > 0 then
  reply = {0, math.max(1, math.ceil(missing * 1000))}
elseif tokens >= 1 and (own >= 1 or tokens - reserved >= 1) then
  tokens, level[class] = tokens - 1, math.max(0, own - 1)
  reply = {1, failures}
  if retries then
    redis.call('HSET', bucket, 'retries', string.format('%.9f', retries - 1), 'retried_at', string.format('%.6f', now))
  end
  if probing then redis.call('HSET', bucket, 'probing_until', string.format('%.6f', now + ARGV[9])) end
else
  -- Until the bucket holds one, and until either our floor holds one or one stands above the others' floors.
  local by_floor = (1 - own) / (rate * floors[class][1])
  local above = 1 - (tokens - reserved)
  local by_rest = filling < 1 and above / (rate * (1 - filling)) or by_floor
  local wait = math.max((1 - tokens) / rate, math.min(math.max(0, by_floor), math.max(0, by_rest)))
  reply = {0, math.max(1, math.ceil(wait * 1000))}
end

local text = {'at', string.format('%.6f', now), 'tokens', string.format('%.9f', tokens), 'factor', tostring(factor)}
for name, amount in pairs(level) do
  text[#text + 1] = 'floor:' .. name
  text[#text + 1] = string.format('%.9f', amount)
end
redis.call('HSET', bucket, unpack(text))
if h.closed_until then redis.call('HDEL', bucket, 'closed_until') end
redis.call('HINCRBY', bucket, (reply[1] == 1 and 'granted:' or 'refused:') .. class, 1)
return reply
