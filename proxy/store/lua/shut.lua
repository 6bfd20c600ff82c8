-- Fences everybody: with a fenced epoch nothing is found and no ticket is good.
-- KEYS[1]  user:epoch
-- ARGV[1]  the fence
-- ARGV[2]  its life in milliseconds; when it is over, the next reader finds no epoch and makes a new one
-- returns  1
local held = redis.pcall('GET', KEYS[1])
local fences = '!' .. ARGV[1]
if type(held) == 'string' and string.sub(held, 1, 1) == '!' then
  fences = string.find(held .. '!', fences .. '!', 1, true) and held or (held .. fences)
end
redis.call('SET', KEYS[1], fences, 'PX', ARGV[2])
return 1
