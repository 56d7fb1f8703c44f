-- census.lua — count what there is: jobs by state, lanes, windows, what is overdue, streams and their groups.
--
-- Why a script: one moment for all numbers, and one command. Every process that is scraped asks, so an answer is kept for a
-- moment and serves them all: how often Redis counts does not depend on how many ask.
--
-- ARGV[1]  prefix
-- ARGV[2]  keep               ms an answer serves others
-- ARGV[3]  most machines      the fullest are told of
-- ARGV[4]  most frontends     and as many groups of each; those that come first by name
-- ARGV[5]  window             jobs past the lanes at once, unless an operator has set another
-- ARGV[6]… tiers              the names jobs are told apart by
--
-- Replies  JSON: [[metric, number, label, label…], …], the metrics of shared/system_gauges.py without `conveyor_`
-- Clock    Redis TIME.
-- Cost     O(machines + limits and pauses that were set + frontends * groups + jobs being started), whatever the number of jobs and lanes: sizes and first
--          members of sorted sets. Once in ARGV[2]; else one GET.

local kept = redis.call('GET', key('census'))
if kept then return kept end

local now = now_ms()
local rows = {}
local function tell(metric, number, ...)
  rows[#rows + 1] = {metric, number, ...}
end

local function first(set)
  return tonumber(redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')[2])
end

-- The same of a set that is only there to be counted. A member that is not in that state any more is taken out: a worker of an
-- older version, which does not know the set, has moved it, or its record is gone.
local function oldest(set, state)
  for _ = 1, 100 do
    local head = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
    if not head[1] or redis.call('HGET', key('job', head[1]), 'state') == state then return tonumber(head[2]) end
    redis.call('ZREM', set, head[1])
  end
end

local function seconds_since(ms)
  return ms and math.max(0, now - ms) / 1000 or 0
end

-- Jobs past the lanes are either being started, of which there are few at a time, or have a run.
oldest(key('running'), 'running')
local by_state = {queued = redis.call('ZCARD', key('expiring')), dispatched = 0, submitting = 0, submitted = 0,
  running = redis.call('ZCARD', key('running'))}
local past, starting = redis.call('ZCARD', key('window')), redis.call('ZCARD', key('starting'))
for _, id in ipairs(redis.call('ZRANGE', key('starting'), 0, 999)) do
  local state = redis.call('HGET', key('job', id), 'state') == 'submitting' and 'submitting' or 'dispatched'
  by_state[state] = by_state[state] + 1
end
by_state.submitted = math.max(0, past - starting - by_state.running)
for state, number in pairs(by_state) do tell('jobs', number, state) end

for i = 6, #ARGV do
  local waiting = key('waiting', ARGV[i])
  tell('lane_oldest_seconds', seconds_since(oldest(waiting, 'queued')), ARGV[i])
  tell('lane_jobs', redis.call('ZCARD', waiting), ARGV[i])
end

local live = {}
local set = redis.call('HGETALL', key('limits'))
for i = 1, #set, 2 do live[set[i]] = tonumber(set[i + 1]) end

tell('window_jobs', past)
tell('window_places', live.window or tonumber(ARGV[5]))
tell('window_oldest_seconds', seconds_since(first(key('window'))))

local machines, limits = {}, redis.call('HGETALL', key('pools'))
for i = 1, #limits, 2 do
  if limits[i] ~= '' then
    local used = tonumber(redis.call('HGET', key('window', 'pools'), limits[i]) or '0')
    machines[#machines + 1] = {limits[i], used, live['pool:' .. limits[i]] or tonumber(limits[i + 1])}
  end
end
table.sort(machines, function(a, b) return a[2] > b[2] or a[2] == b[2] and a[1] < b[1] end)
for i = 1, math.min(#machines, tonumber(ARGV[3])) do
  tell('machine_jobs', machines[i][2], machines[i][1])
  tell('machine_places', machines[i][3], machines[i][1])
end

local pauses = {all = 0, frontend = 0, user = 0, workflow = 0}
local since
local told_of = redis.call('HGETALL', key('pauses'))
for i = 1, #told_of, 2 do
  local kind = string.match(told_of[i], '^[^:]*')
  pauses[kind] = (pauses[kind] or 0) + 1
  since = math.min(since or now, cjson.decode(told_of[i + 1]).since)
end
for kind, number in pairs(pauses) do tell('pauses', number, kind) end
tell('pause_oldest_seconds', seconds_since(since))

for _, set in ipairs({'starting', 'expiring', 'due', 'closing', 'strays', 'callbacks', 'archives'}) do
  tell('backlog', redis.call('ZCARD', key(set)), set)
  tell('overdue_seconds', seconds_since(first(key(set))), set)
end

-- The time in a stream id.
local function written(id)
  return tonumber(string.match(id, '^%d+'))
end

local frontends = redis.call('SMEMBERS', key('frontends'))
table.sort(frontends)
for i = 1, math.min(#frontends, tonumber(ARGV[4])) do
  local frontend, stream = frontends[i], key('results', frontends[i])
  tell('result_stream_length', redis.call('XLEN', stream), frontend)
  tell('dead_letters', redis.call('XLEN', key('results', frontend, 'dead')), frontend)
  local groups = redis.call('EXISTS', stream) == 1 and redis.call('XINFO', 'GROUPS', stream) or {}
  for j = 1, math.min(#groups, tonumber(ARGV[4])) do
    local group = {}
    for k = 1, #groups[j], 2 do group[groups[j][k]] = groups[j][k + 1] end
    if group.lag then tell('group_lag', group.lag, frontend, group.name) end
    tell('group_pending', group.pending, frontend, group.name)
    local oldest = group.pending > 0 and redis.call('XPENDING', stream, group.name)[2]
    if not oldest then
      local unread = redis.call('XRANGE', stream, '(' .. group['last-delivered-id'], '+', 'COUNT', 1)[1]
      oldest = unread and unread[1]
    end
    tell('group_oldest_seconds', seconds_since(oldest and written(oldest)), frontend, group.name)
  end
end

local told = cjson.encode(rows)
redis.call('SET', key('census'), told, 'PX', ARGV[2])
return told
