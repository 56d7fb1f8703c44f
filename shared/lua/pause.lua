-- pause.lua — let no job of a scope out of its lane until an operator resumes it.
--
-- Why a script: a pause nobody can find in the audit is a riddle at three in the morning.
--
-- ARGV[1]  prefix
-- ARGV[2]  scope              `all`, `frontend:<name>`, `user:<frontend>:<id>` or `workflow:<id>`
-- ARGV[3]  name               what people call it
-- ARGV[4]  by                 JSON of {who, reason}; those whose jobs wait are told the reason
--
-- Replies  {"paused", pause} (JSON of {since, who, reason, name}) | {"already", pause} (nothing changes)
-- Clock    Redis TIME.
-- Cost     O(1), however many jobs wait: dispatch takes what it meets aside. Idempotent.

local before = redis.call('HGET', key('pauses'), ARGV[2])
if before then return {'already', before} end
local by = cjson.decode(ARGV[4])
local pause = string.format('{"since":%s,"who":%s,"reason":%s,"name":%s}', int(now_ms()), cjson.encode(by.who),
  cjson.encode(by.reason), cjson.encode(ARGV[3]))
redis.call('HSET', key('pauses'), ARGV[2], pause)
redis.call('SREM', key('returning'), ARGV[2])
audit(ARGV[4], 'pause', ARGV[2], '', pause)
return {'paused', pause}
