-- replay.lua — put dead letters of one job back, so that the group that gave up on them gets them again.
--
-- Why a script: a letter removed and not put back would be lost; put back and not removed, the next operator would put
-- it back once more.
--
-- Where the entry is still on the stream it becomes pending again in the group that failed, at its own place: no other
-- group hears of it. Where it has been trimmed, a copy goes to the end of the stream, with the job_id and seq it had:
-- every group reads it there. Once one letter of a group was copied, its later ones are copied, too, or they would
-- overtake it.
--
-- ARGV[1]  prefix
-- ARGV[2]  frontend
-- ARGV[3]  idle              ms since which the entries count as untouched, so that any consumer may claim them at once
-- ARGV[4…] dead letter ids   of one job, in the order of their events
--
-- Replies  for each id {"pending", entry} | {"copied", new entry} | {"gone", ""} (replayed or removed before)
--          | {"no group", group} (kept: nobody would read it) | {"empty", entry} (kept: its event is lost, only the
--          reason is left)
-- Cost     O(letters of the job + groups of the stream). Idempotent: the second call finds them gone.

local stream, dead = key('results', ARGV[2]), key('results', ARGV[2], 'dead')

local groups = {}
if redis.call('EXISTS', stream) == 1 then
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    for i = 1, #group, 2 do
      if group[i] == 'name' then groups[group[i + 1]] = true end
    end
  end
end

-- The group has a copy: later ones follow it to the end. An entry two groups failed on is copied once.
local behind, copies = {}, {}

local function put_back(letter)
  local found = redis.call('XRANGE', dead, letter, letter)[1]
  if not found then return {'gone', ''} end
  local h, own = {}, {}
  for i = 1, #found[2], 2 do h[found[2][i]] = found[2][i + 1] end
  -- dead_letter.lua put five of its fields behind those of the event.
  for i = 1, #found[2] - 10 do own[i] = found[2][i] end
  local group, entry = h.group or '', h.entry or ''

  if not groups[group] then return {'no group', group} end
  local reply
  if entry ~= '' and not behind[group] and #redis.call('XRANGE', stream, entry, entry) == 1 then
    redis.call('XCLAIM', stream, group, h.consumer or 'replay', 0, entry, 'IDLE', ARGV[3], 'RETRYCOUNT', 0, 'FORCE', 'JUSTID')
    reply = {'pending', entry}
  elseif #own == 0 then
    return {'empty', entry}
  else
    copies[entry] = copies[entry] or redis.call('XADD', stream, '*', unpack(own))
    behind[group] = true
    reply = {'copied', copies[entry]}
  end
  redis.call('XDEL', dead, letter)
  return reply
end

local replies = {}
for i = 4, #ARGV do replies[#replies + 1] = put_back(ARGV[i]) end
return replies
