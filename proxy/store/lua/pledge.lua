-- Notes that a write is under way whose users nobody can name yet, or that it takes longer. Should its proxy die,
-- the note runs out, and whoever renews its lease next evicts everybody, see renew.lua.
-- KEYS[1]  user:members, see renew.lua
-- ARGV[1]  the field, '!' and the fence
-- ARGV[2]  its life in microseconds
-- ARGV[3]  the key's life in milliseconds
-- returns  1
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
if type(redis.pcall('HLEN', KEYS[1])) == 'table' then
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + tonumber(ARGV[2])) .. ':' .. ARGV[2])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
