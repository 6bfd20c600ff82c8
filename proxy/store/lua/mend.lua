-- Removes an answer that cannot be read, if it is still there. A key of a wrong type has lost its floor, so every
-- ticket that is out by now is refused.
-- KEYS[1]  user:id:{id}
-- ARGV[1]  the field, 'v:{slot}'
-- ARGV[2]  what was read from it
-- ARGV[3]  how long a floor is kept, in milliseconds
-- returns  1 removed, 0 somebody else was faster
local held = redis.pcall('HGET', KEYS[1], ARGV[1])
if type(held) == 'table' then
  local time = redis.call('TIME')
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'floor', string.format('%.0f', tonumber(time[1]) * 1000000 + tonumber(time[2])))
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return 1
end
if held == ARGV[2] then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
