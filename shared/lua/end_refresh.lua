-- end_refresh.lua — keep what was read of a part of the catalog, or note that it could not be read.
--
-- Why a script: the copy is replaced whole, so that no reader finds it empty, and only by who still holds the lease: one
-- that was away for longer must not put an older copy over a newer.
--
-- ARGV[1]  prefix
-- ARGV[2]  part               as `begin_refresh` was given it
-- ARGV[3]  owner              as `begin_refresh` was given it
-- ARGV[4]  began              ms; what `begin_refresh` answered
-- ARGV[5]  copy               JSON, with `read_at` near its head; empty when it could not be read
-- ARGV[6]  keep               ms it may be given
-- ARGV[7]  trouble            why it could not be read; empty when nobody is to blame
-- ARGV[8]  rest               ms for which nobody tries again
--
-- Replies  "kept" | "failed" | "freed" (nothing is kept, and anybody may try) | "lost" (another holds it, or did it)
-- Clock    Redis TIME.
-- Cost     O(length of the copy). Repeating it changes nothing and answers "lost".

local state = key('refresh', ARGV[2])
if redis.call('HGET', state, 'owner') ~= ARGV[3] then return 'lost' end
redis.call('HDEL', state, 'owner', 'held_until')
local begun = string.match(redis.call('GETRANGE', key(ARGV[2]), 0, 79), '"read_at": ([%d.]+)')
if begun and begun * 1000 > ARGV[4] + 0.5 then return 'lost' end
if ARGV[5] ~= '' then
  redis.call('SET', key(ARGV[2]), ARGV[5], 'PX', ARGV[6])
  redis.call('HDEL', state, 'failures', 'not_before', 'trouble')
  return 'kept'
end
if ARGV[7] == '' then return 'freed' end
redis.call('HINCRBY', state, 'failures', 1)
redis.call('HSET', state, 'trouble', ARGV[7], 'not_before', int(now_ms() + ARGV[8]))
return 'failed'
