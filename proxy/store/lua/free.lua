-- Clears an alias for a write. Without its mark, a look-up under way cannot store "nobody" any more. An id stays,
-- so that a second run (an answer that was lost) still says whom the alias leads to.
-- KEYS[1]  user:{alias}:{value}
-- returns  what it held, or '' where there was nothing readable
local held = redis.pcall('GET', KEYS[1])
if type(held) ~= 'string' then
  redis.call('DEL', KEYS[1])
  return ''
end
-- A fence stays: it is its writer's to lift, and nothing can be stored below it.
if string.sub(held, 1, 1) == '!' and string.sub(held, 1, 2) ~= '!f' then
  redis.call('DEL', KEYS[1])
  wake_alias(held)
end
return held
