-- Takes a fence down after a write that changed nothing: what was stored before may be served again.
-- KEYS[1]  user:id:{id}
-- ARGV[1]  the fence
-- returns  1 it stood, 0 it was gone: fills may have happened meanwhile
local _, stood = settle(clock(), ARGV[1], false)
return stood and 1 or 0
