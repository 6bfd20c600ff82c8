-- Says until when a user's tokens must have been made not to be called good here. The latest word counts; that of a
-- write under way stands beside it, under the name of the write.
-- KEYS[1]  user:revoke:{id}
-- ARGV[1]  the name of the write, '' for none
-- ARGV[2]  the time in milliseconds
-- ARGV[3]  how long the key must live at least, in milliseconds
-- ARGV[4]  '1' the write has happened, or may have; '0' it is under way
-- returns  1
local held = redis.pcall('HGET', KEYS[1], 'before')
if type(held) == 'table' then
  redis.call('DEL', KEYS[1])
  held = false
end
if ARGV[4] == '1' then
  local before = math.max(held and tonumber(held) or 0, tonumber(ARGV[2]))
  redis.call('HSET', KEYS[1], 'before', string.format('%.0f', before))
  redis.call('HDEL', KEYS[1], 'w:' .. ARGV[1])
else
  redis.call('HSET', KEYS[1], 'w:' .. ARGV[1], ARGV[2])
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
