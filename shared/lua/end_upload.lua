-- end_upload.lua — keep the address of a file that was uploaded, or let another try.
--
-- Why a script: a holder that was away for longer than its lease must not take the place of the one that came after it.
--
-- ARGV[1]  prefix
-- ARGV[2]  account
-- ARGV[3]  digest             as `begin_upload` was given it
-- ARGV[4]  owner              as `begin_upload` was given it
-- ARGV[5]  stored             JSON; empty when there is nothing to keep
-- ARGV[6]  keep               ms the address is given to others; 0 when it is for this once
--
-- Replies  "kept" | "freed" (nothing is kept, nobody holds it) | "lost" (another holds it, or has uploaded it)
-- Cost     O(1). Repeating it changes nothing, but that a kept one answers "lost".

local upload = key('upload', ARGV[2], ARGV[3])
local owner = redis.call('HGET', upload, 'owner')
if (owner and owner ~= ARGV[4]) or redis.call('HEXISTS', upload, 'stored') == 1 then return 'lost' end
redis.call('DEL', upload)
if ARGV[5] == '' or tonumber(ARGV[6]) <= 0 then return 'freed' end
redis.call('HSET', upload, 'stored', ARGV[5])
redis.call('PEXPIRE', upload, ARGV[6])
return 'kept'
