-- Fences an alias that nobody is known to have: until it is lifted, "nobody" is neither answered nor stored.
-- KEYS[1]  user:{alias}:{value}
-- ARGV[1]  the fence
-- ARGV[2]  its life in milliseconds
-- returns  the id that the alias leads to, which is to be fenced instead; '' otherwise
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' and string.sub(held, 1, 1) ~= '!' then
  return held
end
local fences = ARGV[1]
if type(held) == 'string' and string.sub(held, 1, 2) == '!f' then
  local others = string.sub(held, 3)
  fences = string.find(',' .. others .. ',', ',' .. ARGV[1] .. ',', 1, true) and others or (others .. ',' .. ARGV[1])
end
redis.call('SET', KEYS[1], '!f' .. fences, 'PX', ARGV[2])
wake_alias(held)
return ''
