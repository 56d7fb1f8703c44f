-- resume.lua — end a pause.
--
-- Why a script: between the end of the pause and the note of what waits aside for it, those jobs would be nowhere.
--
-- ARGV[1]  prefix
-- ARGV[2]  scope              as it was paused
-- ARGV[3]  by                 JSON of {who, reason}
--
-- Replies  {"resumed", pause} (JSON, as it was) | {"not paused", ""}
-- Clock    Redis TIME.
-- Cost     O(1): dispatch puts back what is aside, some at a time. Idempotent.

local scope = ARGV[2]
local pause = redis.call('HGET', key('pauses'), scope)
if not pause then return {'not paused', ''} end
redis.call('HDEL', key('pauses'), scope)
redis.call('HINCRBY', key('paused'), scope, int(math.max(0, now_ms() - cjson.decode(pause).since)))
if redis.call('EXISTS', key('aside', scope)) == 1 then redis.call('SADD', key('returning'), scope) end
audit(ARGV[3], 'resume', scope, pause, '')
return {'resumed', pause}
