-- dispatch.lua — take the next jobs out of the lanes while the windows have room, one user after the other.
--
-- Why a script: two dispatchers must neither take the same job nor overfill a window.
--
-- ARGV[1]  prefix
-- ARGV[2]  most               jobs to take at the most
-- ARGV[3]  window             jobs past the lanes at once, of everybody, unless an operator has set another
-- ARGV[4]  user window        jobs past the lanes at once, of one user, likewise
-- ARGV[5]  starting window    jobs dispatched or submitting at once; keeps the broker's queue short
-- ARGV[6]  patience           ms after which a dispatched job that nobody picked up is rescued
--
-- Replies  the job ids taken, in order; each must now be published as a submit task.
-- Clock    Redis TIME.
-- Cost     O((taken + users with a full window) * pools). Users with a full window leave the ring and are put back by
--          the release of one of their jobs, so they are met once, not at every dispatch. So do paused users, and jobs of
--          a paused workflow leave their lanes: each is met once in a pause, and is put back after it. At most 500 are taken
--          aside, and 500 put back, in one call.
--
-- Fairness is start-time fair queueing (Goyal, Vin, Cheng 1996) with every job of the same length: a user's turn rises by his
-- step with each job taken (the smaller, the greater his tier's weight), a newcomer starts at the turn being served, so a
-- burst of one user never delays another by more than one job per turn.

local live = {}
local set = redis.call('HGETALL', key('limits'))
for i = 1, #set, 2 do live[set[i]] = tonumber(set[i + 1]) end
local most, window, user_window = tonumber(ARGV[2]), live.window or tonumber(ARGV[3]), live.user_window or tonumber(ARGV[4])
local now = now_ms()
local taken = {}

-- What waited aside for a pause that is over takes its old place.
local scope_back = redis.call('SRANDMEMBER', key('returning'))
if scope_back then
  local aside = key('aside', scope_back)
  local members = redis.call('ZPOPMIN', aside, 500)
  for i = 1, #members, 2 do
    if string.sub(scope_back, 1, 9) == 'workflow:' then
      local id = members[i]
      local h = redis.call('HMGET', key('job', id), 'state', 'user', 'pool')
      redis.call('HDEL', key('job', id), 'aside')
      if h[2] then count_down(key('aside', 'users'), h[2]) end
      if h[1] == 'queued' then enter_lane(id, h[3], h[2]) end
    else
      unpark(members[i])
    end
  end
  if redis.call('EXISTS', aside) == 0 then redis.call('SREM', key('returning'), scope_back) end
end

local paused = redis.call('EXISTS', key('pauses')) == 1
if paused and redis.call('HEXISTS', key('pauses'), 'all') == 1 then return taken end

local function in_use(counters, field)
  return tonumber(redis.call('HGET', key('window', counters), field) or '0')
end

-- The pool with room and waiting users that uses the least: no machine idles while another's queue grows.
local function next_pool()
  local best, least
  local pools = redis.call('HGETALL', key('pools'))
  for i = 1, #pools, 2 do
    local pool, limit = pools[i], live['pool:' .. pools[i]] or tonumber(pools[i + 1])
    local used = in_use('pools', pool)
    if (limit == 0 or used < limit) and (not least or used < least) and redis.call('EXISTS', key('ring', pool)) == 1 then
      best, least = pool, used
    end
  end
  return best
end

local room = math.min(window - redis.call('ZCARD', key('window')),
  tonumber(ARGV[5]) - redis.call('ZCARD', key('starting')))
local set_aside = 0
while #taken < most and room > 0 and set_aside < 500 do
  local pool = next_pool()
  if not pool then break end
  local head = redis.call('ZRANGE', key('ring', pool), 0, 0, 'WITHSCORES')
  local user, turn = head[1], tonumber(head[2])
  local lane = key('lane', pool, user)
  local scope = paused and pause_of(user, '')
  if scope then
    set_aside = set_aside + 1
    redis.call('ZADD', key('aside', scope), turn, user)
  end
  if scope or in_use('users', user) >= (live['user:' .. user] or user_window) then
    redis.call('ZREM', key('ring', pool), user)
    redis.call('ZADD', key('turns', pool), turn, user)
    redis.call('SADD', key('parked', user), pool)
  else
    local popped = redis.call('ZPOPMIN', lane)
    local id = popped[1]
    local h = redis.call('HMGET', key('job', id), 'state', 'workflow_id', 'tier')
    local workflow = paused and h[1] == 'queued' and 'workflow:' .. (h[2] or '')
    local served = true
    if workflow and redis.call('HEXISTS', key('pauses'), workflow) == 1 then
      -- Its user's turn goes to the next job of the lane.
      served = false
      set_aside = set_aside + 1
      redis.call('ZADD', key('aside', workflow), popped[2], id)
      redis.call('HSET', key('job', id), 'aside', workflow)
      redis.call('HINCRBY', key('aside', 'users'), user, 1)
    else
      redis.call('HSET', key('clocks'), pool, int(turn))
    end
    local next_turn = int(served and turn + step_of(user) or turn)
    if redis.call('EXISTS', lane) == 1 then
      redis.call('ZADD', key('ring', pool), next_turn, user)
    else
      redis.call('ZREM', key('ring', pool), user)
      redis.call('ZADD', key('turns', pool), next_turn, user)
    end
    if served then waits_no_more(id, h[3]) end
    if served and h[1] == 'queued' then
      redis.call('ZREM', key('expiring'), id)
      redis.call('HSET', key('job', id), 'dispatched_at', int(now))
      redis.call('ZADD', key('window'), int(now), id)
      redis.call('ZADD', key('starting'), int(now + ARGV[6]), id)
      redis.call('HINCRBY', key('window', 'users'), user, 1)
      redis.call('HINCRBY', key('window', 'pools'), pool, 1)
      taken[#taken + 1] = id
      room = room - 1
    end
  end
end
return taken
