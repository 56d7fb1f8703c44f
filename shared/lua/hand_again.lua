-- hand_again.lua — count one more delivery of an entry, if it is still the consumer's and may be delivered again.
--
-- Why a script: the count must rise exactly when the entry is handed out. XREADGROUP and XAUTOCLAIM count what they
-- fetch, so one poisonous event would drag everything fetched beside it into the dead letters.
--
-- ARGV[1]  prefix
-- ARGV[2]  frontend
-- ARGV[3]  group
-- ARGV[4]  consumer
-- ARGV[5]  entry id
-- ARGV[6]  most               deliveries
--
-- Replies  {"held", deliveries with this one} | {"spent", deliveries so far} | {"lost", 0} (another's, or acknowledged)
-- Cost     O(1). Not idempotent: a repeat counts again.

local stream, group, consumer, id = key('results', ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local pending = redis.call('XPENDING', stream, group, id, id, 1)[1]
if not pending or pending[2] ~= consumer then return {'lost', 0} end
if pending[4] >= tonumber(ARGV[6]) then return {'spent', pending[4]} end
redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', pending[4] + 1, 'JUSTID')
return {'held', pending[4] + 1}
