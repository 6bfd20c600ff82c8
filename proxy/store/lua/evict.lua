-- Removes all answers of a user and raises the floor, also where nothing was stored.
-- KEYS[1]  user:id:{id}
-- ARGV[1]  the new floor: a ticket number taken when the eviction began
-- ARGV[2]  how long the floor is kept, in milliseconds
-- ARGV[3]  tolerance in microseconds: an old floor that is higher by more than this is garbage
-- ARGV[4]  the fence that the write raised, '' for none: it is lifted in the same step; those of others stay
-- returns  1 if that fence stood, else 0, and after that field, answer, field, … of what was removed
local floor = tonumber(ARGV[1])
local others, stood = settle(clock(), ARGV[4], true)
local removed = {stood and 1 or 0}
local fields = redis.pcall('HGETALL', KEYS[1])
if not fields.err then
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'v:' then
      removed[#removed + 1] = fields[i]
      removed[#removed + 1] = fields[i + 1]
    elseif string.sub(fields[i], 1, 2) == 'w:' then
      -- What they wait for will be refused.
      wake(fields[i + 1])
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
local life = tonumber(ARGV[2])
if others ~= '' then
  redis.call('HSET', KEYS[1], 'fence', others)
  for ends in string.gmatch(others, ':(%d+)') do
    life = math.max(life, tonumber(ARGV[2]) + math.floor((tonumber(ends) - clock()) / 1000))
  end
end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', life))
return removed
