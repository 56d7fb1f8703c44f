-- dispatch.lua — take the next jobs out of the lanes while the windows have room, one user after the other.
--
-- Why a script: two dispatchers must neither take the same job nor overfill a window.
--
-- ARGV[1]  prefix
-- ARGV[2]  most               jobs to take at the most
-- ARGV[3]  window             jobs past the lanes at once, of everybody
-- ARGV[4]  user window        jobs past the lanes at once, of one user
-- ARGV[5]  starting window    jobs dispatched or submitting at once; keeps the broker's queue short
-- ARGV[6]  patience           ms after which a dispatched job that nobody picked up is rescued
--
-- Replies  the job ids taken, in order; each must now be published as a submit task.
-- Clock    Redis TIME.
-- Cost     O((taken + users with a full window) * pools). Users with a full window leave the ring and are put back by
--          the release of one of their jobs, so they are met once, not at every dispatch.
--
-- Fairness is start-time fair queueing (Goyal, Vin, Cheng 1996) with every job of the same length: a user's turn rises by his
-- step with each job taken (the smaller, the greater his tier's weight), a newcomer starts at the turn being served, so a
-- burst of one user never delays another by more than one job per turn.

local most, window, user_window = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms()
local taken = {}

local function in_use(counters, field)
  return tonumber(redis.call('HGET', key('window', counters), field) or '0')
end

-- The pool with room and waiting users that uses the least: no machine idles while another's queue grows.
local function next_pool()
  local best, least
  local pools = redis.call('HGETALL', key('pools'))
  for i = 1, #pools, 2 do
    local pool, limit = pools[i], tonumber(pools[i + 1])
    local used = in_use('pools', pool)
    if (limit == 0 or used < limit) and (not least or used < least) and redis.call('EXISTS', key('ring', pool)) == 1 then
      best, least = pool, used
    end
  end
  return best
end

local room = math.min(window - redis.call('ZCARD', key('window')),
  tonumber(ARGV[5]) - redis.call('ZCARD', key('starting')))
while #taken < most and room > 0 do
  local pool = next_pool()
  if not pool then break end
  local head = redis.call('ZRANGE', key('ring', pool), 0, 0, 'WITHSCORES')
  local user, turn = head[1], tonumber(head[2])
  local lane = key('lane', pool, user)
  if in_use('users', user) >= user_window then
    redis.call('ZREM', key('ring', pool), user)
    redis.call('ZADD', key('turns', pool), turn, user)
    redis.call('SADD', key('parked', user), pool)
  else
    local id = redis.call('ZPOPMIN', lane)[1]
    redis.call('HSET', key('clocks'), pool, int(turn))
    local next_turn = int(turn + step_of(user))
    if redis.call('EXISTS', lane) == 1 then
      redis.call('ZADD', key('ring', pool), next_turn, user)
    else
      redis.call('ZREM', key('ring', pool), user)
      redis.call('ZADD', key('turns', pool), next_turn, user)
    end
    if id and redis.call('HGET', key('job', id), 'state') == 'queued' then
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
