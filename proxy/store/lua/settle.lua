-- For a reader that met a fence.
-- KEYS[1]  user:id:{id}
-- returns  0 the user is not fenced (any more), 1 it is, 2 a writer died and the user is to be evicted
local left, _, lapsed = settle(clock(), '', false)
if lapsed then
  return 2
end
return left ~= '' and 1 or 0
