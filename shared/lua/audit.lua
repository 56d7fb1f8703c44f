-- audit.lua — write down what an operator did that no script of its own does.
--
-- ARGV[1]  prefix
-- ARGV[2]  by                 JSON of {who, reason}
-- ARGV[3]  action
-- ARGV[4]  target
-- ARGV[5]  before
-- ARGV[6]  after
--
-- Replies  "noted"
-- Cost     O(1); the last 10,000 acts are kept. A repeat is a second line.

audit(ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
return 'noted'
