-- Raises a fence around a user, or extends one: no hits and no fills until it is lifted or its life is over.
-- KEYS[1]  user:id:{id}
-- ARGV[1]  the fence
-- ARGV[2]  its life in microseconds
-- ARGV[3]  how long a floor is kept, in milliseconds
-- returns  1
local now = clock()
if type(redis.pcall('HLEN', KEYS[1])) == 'table' then
  -- Of another type: whatever floor it had is lost, so every ticket that is out by now is refused.
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'floor', string.format('%.0f', now))
end
local live = settle(now, ARGV[1], false)
local mine = ARGV[1] .. ':' .. string.format('%.0f', now + tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], 'fence', live == '' and mine or (live .. ',' .. mine))
local life = math.floor(tonumber(ARGV[2]) / 1000) + tonumber(ARGV[3])
if redis.call('PTTL', KEYS[1]) < life then
  redis.call('PEXPIRE', KEYS[1], life)
end
return 1
