-- Takes the next ticket number. Numbers are microseconds of the server's clock, so a counter that was lost or
-- overwritten goes on above every number that was given out before, unless the clock was set back meanwhile.
-- KEYS[1]  user:seq
-- ARGV[1]  its life in milliseconds
-- ARGV[2]  tolerance in microseconds: a counter further ahead of the clock than this is garbage
-- ARGV[3]  '1' to restart a counter that is lost, or garbage in that way, '0' to report it
-- returns  the number as text; '' for a counter that was not restarted. Restarting it is safe only once the epoch
--          was raised, as tickets above the restarted counter may be out.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local current = redis.pcall('GET', KEYS[1])
local last = 0
if type(current) == 'string' and #current <= 16 and string.find(current, '^%d+$') then
  last = tonumber(current)
end
if last == 0 or last > now + tonumber(ARGV[2]) then
  if ARGV[3] ~= '1' then
    return ''
  end
  last = 0
end
local seq = string.format('%.0f', math.max(last + 1, now))
redis.call('SET', KEYS[1], seq, 'PX', ARGV[1])
return seq
