-- The same for an alias: takes the mark away and frees all who wait.
-- KEYS[1]  user:{alias}:{value}
-- ARGV[1]  the mark
-- ARGV[2]  the message to send to those who wait
-- returns  1
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' and string.match(held, '^[^\n]*') == ARGV[1] then
  redis.call('DEL', KEYS[1])
  if string.find(held, '\n', 1, true) then
    wake(ARGV[2])
  end
end
return 1
