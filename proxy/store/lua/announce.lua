-- Tells all replicas what to drop from memory, and says whose memory may still be in use.
-- KEYS[1]  user:members
-- ARGV[1]  the channel of all
-- ARGV[2]  the message
-- returns  replica, microseconds left of its lease, replica, … of all whose lease is not over
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
redis.call('PUBLISH', ARGV[1], ARGV[2])
local members = redis.pcall('HGETALL', KEYS[1])
local live = {}
if members.err then
  return live
end
for i = 1, #members, 2 do
  local ends = tonumber(members[i + 1])
  -- '@' and '#' name the server, and what begins with '!' is a write, see renew.lua: no such number.
  if ends and ends > now and ends < now + 60000000 then
    live[#live + 1] = members[i]
    live[#live + 1] = string.format('%.0f', ends - now)
  end
end
return live
