-- Leaves a mark at an alias that nobody is known to have. "Nobody" is stored only while its mark is still there.
-- KEYS[1]  user:{alias}:{value}
-- ARGV[1]  a new mark, '!w' and a random text
-- ARGV[2]  its life in milliseconds
-- returns  the mark that is there now, or '' where an id or a live "nobody" is
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' then
  if string.sub(held, 1, 2) == '!w' then
    return held
  end
  return ''
end
-- A wrong type is overwritten by SET.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
