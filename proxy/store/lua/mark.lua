-- Leaves a mark at an alias that nobody is known to have. "Nobody" is stored only while its mark is still there.
-- A young mark is also the lease on filling the alias.
-- KEYS[1]  user:{alias}:{value}
-- ARGV[1]  a new mark, '!w' and a random text
-- ARGV[2]  its life in milliseconds
-- ARGV[3]  how much of that is the lease, in milliseconds; 0 to share a mark without waiting
-- ARGV[4]  the message to send down the feed when the fill has ended
-- returns  the mark that is there now, or '' where an id or a live "nobody" is, and the milliseconds that the
--          lease is somebody else's, 0 where it is ours
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' then
  if string.sub(held, 1, 2) ~= '!w' then
    return {'', 0}
  end
  local mark = string.match(held, '^[^\n]*')
  -- A second run of this command: its first answer was lost, or came with a ticket that was none.
  if mark == ARGV[1] then
    return {mark, 0}
  end
  local left = redis.call('PTTL', KEYS[1]) - (tonumber(ARGV[2]) - tonumber(ARGV[3]))
  if left > 0 and tonumber(ARGV[3]) > 0 then
    redis.call('SET', KEYS[1], mark .. '\n' .. ARGV[4], 'PX', redis.call('PTTL', KEYS[1]))
    return {mark, left}
  end
  if tonumber(ARGV[3]) > 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
  end
  return {mark, 0}
end
-- A wrong type is overwritten by SET.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {ARGV[1], 0}
