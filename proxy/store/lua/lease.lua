-- Takes the lease on filling one slot of a user, or leaves word for whoever holds it.
-- KEYS[1]  user:id:{id}
-- ARGV[1]  the slot
-- ARGV[2]  a new random token
-- ARGV[3]  the lease in microseconds
-- ARGV[4]  how long the key must live at least, in milliseconds: as long as any ticket, so that a fill can tell
--          that the floors it has to respect were lost with the key
-- ARGV[5]  the message to send down the feed when the fill has ended
-- returns  0 the lease is ours, else the microseconds that it is somebody else's; -1 a write is under way
local now = clock()
if type(redis.pcall('HLEN', KEYS[1])) == 'table' then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'floor', string.format('%.0f', now))
end
if settle(now, '', false) ~= '' then
  return -1
end
local held = redis.call('HGET', KEYS[1], 'l:' .. ARGV[1])
-- A second run of this command: its first answer was lost, or came with a ticket that was none.
if held and string.sub(held, 1, #ARGV[2] + 1) == ARGV[2] .. ':' then
  return 0
end
local ends = held and tonumber(string.match(held, ':(%d+)$'))
if ends and ends > now and ends <= now + tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], 'w:' .. ARGV[1], ARGV[5])
  return ends - now
end
redis.call('HSET', KEYS[1], 'l:' .. ARGV[1], ARGV[2] .. ':' .. string.format('%.0f', now + tonumber(ARGV[3])))
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return 0
