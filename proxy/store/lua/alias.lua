-- Points an alias at a user. What else was there (a mark, "nobody", another id) gives way: aliases prove
-- themselves when they are followed. An alias that leads there already keeps the longer of the two lives.
-- KEYS[1]  user:{alias}:{value}
-- ARGV[1]  the id
-- ARGV[2]  its life in milliseconds
-- ARGV[3]  the mark in whose place it may be set, where anything but that and the id refuses it; else ''
-- returns  1, or 0 for refused
local held = redis.pcall('GET', KEYS[1])
if (ARGV[3] or '') ~= '' and held ~= ARGV[1] and (type(held) ~= 'string' or string.match(held, '^[^\n]*') ~= ARGV[3]) then
  return 0
end
if held ~= ARGV[1] or redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  wake_alias(held)
end
return 1
