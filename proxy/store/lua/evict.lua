-- Removes all answers of a user and raises the floor, also where nothing was stored.
-- KEYS[1]  user:id:{id}
-- ARGV[1]  the new floor: a ticket number taken when the eviction began
-- ARGV[2]  how long the floor is kept, in milliseconds
-- ARGV[3]  tolerance in microseconds: an old floor that is higher by more than this is garbage
-- returns  the answers that were removed
local floor = tonumber(ARGV[1])
local removed = {}
local fields = redis.pcall('HGETALL', KEYS[1])
if not fields.err then
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'v:' then
      removed[#removed + 1] = fields[i + 1]
    elseif fields[i] == 'floor' and #fields[i + 1] <= 16 and string.find(fields[i + 1], '^%d+$') then
      local old = tonumber(fields[i + 1])
      if old <= tonumber(ARGV[1]) + tonumber(ARGV[3]) then
        floor = math.max(floor, old)
      end
    end
  end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'floor', string.format('%.0f', floor))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return removed
