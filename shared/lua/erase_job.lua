-- erase_job.lua — forget one job of a user that has ended, and everything kept under its id.
--
-- Why a script: a job that is not over has a run somebody pays for, and must not lose its record.
--
-- ARGV[1]  prefix
-- ARGV[2]  job id
-- ARGV[3]  user               `<frontend>:<id>`; a job of another stays
--
-- Replies  "erased" | "missing" (what lay beside its record is gone now) | "open" (it has not ended, or its run is still being
--          cancelled) | "another" (a job of another user)
-- Cost     O(log jobs). Idempotent.

local id, owner = ARGV[2], ARGV[3]
local job = key('job', id)
local h = redis.call('HMGET', job, 'state', 'user', 'run_id', 'frontend', 'request')
if h[2] and h[2] ~= owner then return 'another' end
if h[1] and not FINAL[h[1]] then return 'open' end
if redis.call('ZSCORE', key('strays'), id .. ' ' .. (h[3] or '?')) then return 'open' end
local readable, request = pcall(cjson.decode, h[5] or '{}')

for _, set in ipairs({key('closing'), key('callbacks'), key('archives'), key('expiring'), key('starting'), key('jobs', owner)}) do
  redis.call('ZREM', set, id)
end
redis.call('DEL', key('callback', id), job)
if not h[1] then return 'missing' end
if h[3] then redis.call('DEL', key('run', h[3])) end
if readable and type(request.idempotency_key) == 'string' then
  local idem = key('idem', h[4], request.idempotency_key)
  if redis.call('GET', idem) == id then redis.call('DEL', idem) end
end
return 'erased'
