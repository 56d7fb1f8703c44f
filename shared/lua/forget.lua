-- forget.lua — what these parts of the catalog are copies of has been changed: whatever was read until now is outdated.
--
-- Why a script: the note has to be on the clock by which copies are dated. The copies stay; who finds nothing better in
-- time still gets them.
--
-- ARGV[1]  prefix
-- ARGV[2]  keep               ms the note is kept
-- ARGV[3…] parts              the keys of their copies, without the prefix
--
-- Replies  "forgotten"
-- Clock    Redis TIME.
-- Cost     O(parts). Repeating it only makes what was read in between outdated, too.

local now = int(now_ms())
for i = 3, #ARGV do
  local state = key('refresh', ARGV[i])
  redis.call('HSET', state, 'forgotten', now)
  -- Somebody has just reached the API.
  redis.call('HDEL', state, 'not_before')
  redis.call('PEXPIRE', state, ARGV[2])
end
return 'forgotten'
