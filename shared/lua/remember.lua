-- remember.lua — what a finished run teaches: how long it took from each of its milestones to its end.
--
-- Why a script: several workers add to the same lists, and a list is one field, so that all are read by one command.
--
-- ARGV[1]  prefix
-- ARGV[2]  deployment
-- ARGV[3]  durations          JSON object: milestone -> seconds, as text
-- ARGV[4]  kept               durations kept of each milestone
-- ARGV[5]  keep               seconds until a deployment nobody runs any more is forgotten
-- ARGV[6]  hinted             "1" when a hint had announced the end, "0" when none had, "" when none was asked for
-- ARGV[7]  hints kept         the last runs whose hints are counted
--
-- Replies  "remembered"
-- Cost     O(milestones * kept). A repeat counts the run twice, which changes little.

local history = key('history', ARGV[2])
for milestone, seconds in pairs(cjson.decode(ARGV[3])) do
  local words = {seconds}
  for word in string.gmatch(redis.call('HGET', history, milestone) or '', '%S+') do
    if #words == tonumber(ARGV[4]) then break end
    words[#words + 1] = word
  end
  redis.call('HSET', history, milestone, table.concat(words, ' '))
end
redis.call('EXPIRE', history, ARGV[5])
if ARGV[6] ~= '' then
  redis.call('LPUSH', key('hints'), ARGV[6])
  redis.call('LTRIM', key('hints'), 0, ARGV[7] - 1)
end
return 'remembered'
