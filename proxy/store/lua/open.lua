-- Takes one fence off everybody. With the last one a new epoch begins: what was stored before is not found again.
-- KEYS[1]  user:epoch
-- ARGV[1]  the fence
-- ARGV[2]  a new random epoch
-- ARGV[3]  its life in milliseconds
-- returns  1
local held = redis.pcall('GET', KEYS[1])
local others = {}
if type(held) == 'string' and string.sub(held, 1, 1) == '!' then
  for fence in string.gmatch(held, '[^!]+') do
    if fence ~= ARGV[1] then
      others[#others + 1] = fence
    end
  end
end
if #others == 0 then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
else
  redis.call('SET', KEYS[1], '!' .. table.concat(others, '!'), 'PX', redis.call('PTTL', KEYS[1]))
end
return 1
