-- For a reader that met a fence: evicts if its writer died.
-- KEYS[1]  user:id:{id}
-- ARGV[1]  how long a floor is kept, in milliseconds
-- returns  1 the user is fenced, 0 it is not (any more)
return settle(clock(), ARGV[1], '') ~= '' and 1 or 0
