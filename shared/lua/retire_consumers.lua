-- retire_consumers.lua — remove the consumers of a group that have been silent for long and hold nothing.
--
-- Why a script: XGROUP DELCONSUMER forgets what the consumer holds, so nothing may arrive between looking and removing.
--
-- ARGV[1]  prefix
-- ARGV[2]  frontend
-- ARGV[3]  group
-- ARGV[4]  idle               ms since the consumer last asked for anything
--
-- Replies  the names removed
-- Clock    Redis's own idle times.
-- Cost     O(consumers). Idempotent.

local stream, group = key('results', ARGV[2]), ARGV[3]
local removed = {}
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local consumer = {}
  for i = 1, #flat, 2 do consumer[flat[i]] = flat[i + 1] end
  if consumer.pending == 0 and consumer.idle >= tonumber(ARGV[4]) then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer.name)
    removed[#removed + 1] = consumer.name
  end
end
return removed
