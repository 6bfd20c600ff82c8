-- Says that a token is good no more. A definite word ('!r') replaces whatever is there; a provisional one, of a
-- logout under way, replaces nothing that says it already.
-- KEYS[1]  user:token:{hash}
-- ARGV[1]  '!r', or '!r' and the name of the write
-- ARGV[2]  its life in milliseconds: until the token's exp
-- returns  1 it says so now, 0 it did already
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' and string.sub(held, 1, 2) == '!r' and ARGV[1] ~= '!r' then
  return 0
end
local life = math.max(tonumber(ARGV[2]), type(held) == 'string' and redis.call('PTTL', KEYS[1]) or 0)
redis.call('SET', KEYS[1], ARGV[1], 'PX', string.format('%.0f', life))
return 1
