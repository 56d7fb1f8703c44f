-- begin_refresh.lua — may I read this part of the catalog anew, is somebody at it, or has it been done?
--
-- Why a script: of five hundred that find a copy too old, in as many processes, one must be told to read. Who asks a
-- moment after he was done must be told that there is a newer copy, or it would be read twice.
--
-- ARGV[1]  prefix
-- ARGV[2]  part               the key of its copy, without the prefix
-- ARGV[3]  owner              who asks; the holder asks again to renew
-- ARGV[4]  lease              ms; a holder that does not come back by then is taken for dead
-- ARGV[5]  known              ms; a copy that was begun later than this is new enough
-- ARGV[6]  insist             1: also when reading it has just failed
-- ARGV[7]  keep               ms the note of all this is kept
--
-- Replies  {"yours", now} | {"busy", ms until the other's lease is over} | {"newer", when it was begun}
--          | {"resting", ms until it may be tried again}
-- Clock    Redis TIME.
-- Cost     O(1). Repeating it as the holder renews the lease.

local state = key('refresh', ARGV[2])
local h = redis.call('HMGET', state, 'owner', 'held_until', 'not_before')
local now = now_ms()
if h[1] ~= ARGV[3] then
  -- The copy says itself when it was begun, near its head: whoever wrote it.
  local begun = string.match(redis.call('GETRANGE', key(ARGV[2]), 0, 79), '"read_at": ([%d.]+)')
  if begun and begun * 1000 > ARGV[5] + 0.5 then return {'newer', int(begun * 1000)} end
  if h[1] and tonumber(h[2]) > now then return {'busy', int(h[2] - now)} end
  if ARGV[6] ~= '1' and h[3] and tonumber(h[3]) > now then return {'resting', int(h[3] - now)} end
end
redis.call('HSET', state, 'owner', ARGV[3], 'held_until', int(now + ARGV[4]))
redis.call('PEXPIRE', state, ARGV[7])
return {'yours', int(now)}
