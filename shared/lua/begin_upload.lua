-- begin_upload.lua — may I upload this file, has somebody done so, or is somebody at it?
--
-- Why a script: of fifty that ask at once one must be told to upload, and the others to wait for him.
--
-- ARGV[1]  prefix
-- ARGV[2]  account
-- ARGV[3]  digest             of the content and the kind it goes as
-- ARGV[4]  owner              who asks; the holder asks again to renew
-- ARGV[5]  lease              ms; a holder that does not come back by then is taken for dead
--
-- Replies  {"kept", stored} (its address, as JSON) | {"yours", ""} | {"busy", ms until the other's lease is over}
-- Clock    Redis TIME.
-- Cost     O(1). Repeating it as the holder renews the lease.

local upload = key('upload', ARGV[2], ARGV[3])
local h = redis.call('HMGET', upload, 'stored', 'owner', 'held_until')
if h[1] then return {'kept', h[1]} end
local now = now_ms()
if h[2] and h[2] ~= ARGV[4] and tonumber(h[3]) > now then return {'busy', int(h[3] - now)} end
redis.call('HSET', upload, 'owner', ARGV[4], 'held_until', int(now + ARGV[5]))
redis.call('PEXPIRE', upload, ARGV[5])
return {'yours', ''}
