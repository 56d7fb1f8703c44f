-- dead_letter.lua — give up on delivering an entry: keep it with the reason, and acknowledge it.
--
-- Why a script: acknowledged but not kept would be lost; kept but not acknowledged would be kept again and again.
--
-- ARGV[1]  prefix
-- ARGV[2]  frontend
-- ARGV[3]  group
-- ARGV[4]  consumer
-- ARGV[5]  entry id
-- ARGV[6]  reason
--
-- Replies  {"dead", id in the dead letters} | {"lost", ""} (another consumer's, or acknowledged)
-- Cost     O(fields). The dead letter has the entry's own fields, then reason, entry, group, consumer, deliveries.
--          Idempotent: the second call finds nothing pending.

local stream, group, consumer, id = key('results', ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local pending = redis.call('XPENDING', stream, group, id, id, 1)[1]
if not pending or pending[2] ~= consumer then return {'lost', ''} end
local entry = redis.call('XRANGE', stream, id, id)[1]
local fields = entry and entry[2] or {}
for _, text in ipairs({'reason', ARGV[6], 'entry', id, 'group', group, 'consumer', consumer,
  'deliveries', pending[4]}) do
  fields[#fields + 1] = text
end
local dead = redis.call('XADD', key('results', ARGV[2], 'dead'), '*', unpack(fields))
redis.call('XACK', stream, group, id)
return {'dead', dead}
