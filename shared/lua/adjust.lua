-- adjust.lua — set limits live, or have the environment's hold again: the windows, or the budget of an account.
--
-- Why a script: the limit and who set it, and from what, are one act.
--
-- ARGV[1]  prefix
-- ARGV[2]  account            whose budget; "" for the windows
-- ARGV[3]  set                JSON object of texts, by the names in the hash
-- ARGV[4]  forget             JSON array of names
-- ARGV[5]  action             as the audit calls it
-- ARGV[6]  by                 JSON of {who, reason}
--
-- Replies  {"adjusted", before, after} (JSON objects: what was set live of these names, and is now)
-- Cost     O(names), for windows also O(users past the lanes): who waits for room in his window gets another chance.
--          Idempotent, but for the line in the audit.

local account, set, forget = ARGV[2], cjson.decode(ARGV[3]), cjson.decode(ARGV[4])
local hash = account == '' and key('limits') or key('budget', account)
local before = {}
for name in pairs(set) do before[name] = redis.call('HGET', hash, name) or nil end
for _, name in ipairs(forget) do
  before[name] = redis.call('HGET', hash, name) or nil
  redis.call('HDEL', hash, name)
end
for name, text in pairs(set) do redis.call('HSET', hash, name, text) end
if account == '' then
  for _, user in ipairs(redis.call('HKEYS', key('window', 'users'))) do unpark(user) end
end
audit(ARGV[6], ARGV[5], account == '' and 'windows' or account, cjson.encode(before), cjson.encode(set))
return {'adjusted', cjson.encode(before), cjson.encode(set)}
