-- Takes one fence off an alias; other writers' fences stay.
-- KEYS[1]  user:{alias}:{value}
-- ARGV[1]  the fence
-- returns  1 it stood, 0 it was gone
local held = redis.pcall('GET', KEYS[1])
if type(held) ~= 'string' or string.sub(held, 1, 2) ~= '!f' then
  return 0
end
local others, stood = {}, 0
for fence in string.gmatch(string.sub(held, 3), '[^,]+') do
  if fence == ARGV[1] then
    stood = 1
  else
    others[#others + 1] = fence
  end
end
if #others == 0 then
  redis.call('DEL', KEYS[1])
elseif stood == 1 then
  redis.call('SET', KEYS[1], '!f' .. table.concat(others, ','), 'PX', redis.call('PTTL', KEYS[1]))
end
return stood
