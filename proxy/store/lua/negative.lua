-- Stores "nobody has this key", if no write gave the key away since the mark was left.
-- KEYS[1]  user:{alias}:{value}
-- ARGV[1]  the mark that the ticket carries
-- ARGV[2]  the record, '!n…'
-- ARGV[3]  its life in milliseconds
-- returns  1 stored, 0 the mark is gone. Run twice, the second run says 1 for the record it finds in place.
local held = redis.pcall('GET', KEYS[1])
if held == ARGV[2] then
  return 1
end
if type(held) ~= 'string' or string.match(held, '^[^\n]*') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
wake_alias(held)
return 1
