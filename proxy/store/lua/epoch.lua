-- Reads the epoch; what is missing or garbage is replaced, which drops every stored answer.
-- KEYS[1]  user:epoch
-- ARGV[1]  a new random epoch, used where there is none
-- ARGV[2]  its life in milliseconds
-- ARGV[3]  refresh its life when less than this is left, in milliseconds
-- returns  the epoch; one that begins with '!' is fenced and good for nothing
local epoch = redis.pcall('GET', KEYS[1])
-- Fenced by a write to everybody; its own life says when that is over.
if type(epoch) == 'string' and string.sub(epoch, 1, 1) == '!' and #epoch < 1000 then
  return epoch
end
if type(epoch) ~= 'string' or #epoch > 64 or not string.find(epoch, '^[%w_-]+$') then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return ARGV[1]
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return epoch
