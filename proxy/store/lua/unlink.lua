-- Removes a key if it still holds what was read from it; one of a wrong type is removed in any case.
-- KEYS[1]  user:{alias}:{value}
-- ARGV[1]  what was read
-- returns  1 removed, 0 it holds something else by now
local held = redis.pcall('GET', KEYS[1])
if held == ARGV[1] or type(held) == 'table' then
  return redis.call('DEL', KEYS[1])
end
return 0
