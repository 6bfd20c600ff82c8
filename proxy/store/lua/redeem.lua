-- Removes the note of a write whose users nobody could name: what it changed is evicted.
-- KEYS[1]  user:members
-- ARGV[1]  the field
-- ARGV[2]  what it must hold, '' for anything: a writer that was thought dead may have renewed it
-- returns  1 removed, 0 it holds something else, or is gone
local held = redis.pcall('HGET', KEYS[1], ARGV[1])
if type(held) == 'string' and (ARGV[2] == '' or held == ARGV[2]) then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
