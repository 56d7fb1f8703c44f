-- earlier.lua — which events must wait because an earlier one of the same job has not been acknowledged?
--
-- Why a script: a pending entry names no job, so each has to be read; from outside that would be a round trip each.
-- The answer only ever shrinks (what is acknowledged stays so, and a group delivers in stream order), so nothing has
-- to be locked between asking and handing out.
--
-- ARGV[1]  prefix
-- ARGV[2]  frontend
-- ARGV[3]  group
-- ARGV[4…] entry ids          in stream order, as read by the caller
--
-- Replies  for each id {consumer that holds it ("" when it is not pending), earlier pending ids of the same job, ...}
-- Cost     O(pending entries of the group up to the last id). Reads only.

local stream, group, last = key('results', ARGV[2]), ARGV[3], ARGV[#ARGV]
local place, reply, earlier = {}, {}, {}
for i = 4, #ARGV do
  place[ARGV[i]] = i - 3
  reply[i - 3] = {''}
end
local from = '-'
repeat
  local page = redis.call('XPENDING', stream, group, from, last, 100)
  for _, pending in ipairs(page) do
    local id = pending[1]
    local entry = redis.call('XRANGE', stream, id, id)[1]
    local fields, job = entry and entry[2] or {}, nil
    for i = 1, #fields, 2 do
      if fields[i] == 'job_id' then job = fields[i + 1] end
    end
    if job then
      local before = earlier[job] or {}
      earlier[job] = before
      if place[id] then
        reply[place[id]] = {pending[2], unpack(before)}
      end
      -- Replies stay short: an empty id, which no caller knows, makes what comes after the 200th wait.
      if #before <= 200 then before[#before + 1] = #before < 200 and id or '' end
    elseif place[id] then
      reply[place[id]] = {pending[2]}
    end
    from = '(' .. id
  end
until #page < 100
return reply
