-- prune.lua — trim one frontend's stream below what every consumer group has acknowledged, and its old dead letters.
--
-- ARGV[1]  prefix
-- ARGV[2]  frontend
-- ARGV[3]  horizon            ms; younger entries stay, whatever was acknowledged
-- ARGV[4]  unread horizon     ms; when nobody ever made a consumer group, younger entries stay
-- ARGV[5]  dead horizon       ms; younger dead letters stay
--
-- Replies  how many entries were trimmed; dead letters are not counted
-- Cost     O(groups + trimmed). Idempotent.

local stream = key('results', ARGV[2])
redis.call('XTRIM', key('results', ARGV[2], 'dead'), 'MINID', (ARGV[5] or '0') .. '-0')
if redis.call('EXISTS', stream) == 0 then return 0 end
local groups = redis.call('XINFO', 'GROUPS', stream)
if #groups == 0 then return redis.call('XTRIM', stream, 'MINID', ARGV[4] .. '-0') end

-- Ids as "ms-seq"; compared part by part, for as numbers they would lose digits.
local function before(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  if a_ms ~= b_ms then return tonumber(a_ms) < tonumber(b_ms) end
  return tonumber(a_seq) < tonumber(b_seq)
end

local keep_from = ARGV[3] .. '-0'
for _, group in ipairs(groups) do
  local info = {}
  for i = 1, #group, 2 do info[group[i]] = group[i + 1] end
  -- The oldest entry handed out and not acknowledged, else the last one handed out (it is read, its successor is not).
  local pending = redis.call('XPENDING', stream, info['name'])
  local oldest = pending[2] or info['last-delivered-id']
  if before(oldest, keep_from) then keep_from = oldest end
end
return redis.call('XTRIM', stream, 'MINID', keep_from)
