-- keep.lua — say that a consumer still works on its entries, and hear which entries it has.
--
-- Why a script: between looking and renewing, another consumer may claim an entry, and renewing would steal it back.
--
-- ARGV[1]  prefix
-- ARGV[2]  frontend
-- ARGV[3]  group
-- ARGV[4]  consumer
-- ARGV[5]  most               ids to reply at the most, oldest first
-- ARGV[6…] entry ids          those being worked on: they count as fresh again if they are still the consumer's
--
-- Replies  the ids pending at the consumer
-- Clock    Redis's own idle times.
-- Cost     O(replied + given ids). Delivery counts stay. Repeating it changes nothing more.

local stream, group, consumer = key('results', ARGV[2]), ARGV[3], ARGV[4]
local kept, ids = {}, {}
for i = 6, #ARGV do kept[ARGV[i]] = true end
for _, pending in ipairs(redis.call('XPENDING', stream, group, '-', '+', ARGV[5], consumer)) do
  ids[#ids + 1] = pending[1]
  if kept[pending[1]] then
    redis.call('XCLAIM', stream, group, consumer, 0, pending[1], 'JUSTID')
  end
end
return ids
