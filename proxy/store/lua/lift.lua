-- Takes a fence down after a write that changed nothing: what was stored before may be served again.
-- KEYS[1]  user:id:{id}
-- ARGV[1]  the fence
-- ARGV[2]  how long a floor is kept, in milliseconds
-- returns  1 it stood, 0 it was gone: fills may have happened meanwhile
local _, stood = settle(clock(), ARGV[2], ARGV[1])
return stood and 1 or 0
