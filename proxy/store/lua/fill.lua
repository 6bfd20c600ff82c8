-- Stores an answer of a user, unless the user was evicted after the ticket was taken.
-- KEYS[1]  user:id:{id}
-- ARGV[1]  the ticket's number
-- ARGV[2]  the field, 'v:{slot}'
-- ARGV[3]  the answer
-- ARGV[4]  its life in milliseconds
-- ARGV[5]  how long a floor is kept, in milliseconds
-- ARGV[6]  how old a ticket may be, in microseconds; half of ARGV[5] at most, so no ticket outlives a floor
-- ARGV[7]  how many per-token fields ('v:{view}#{hash}') a user may have
-- ARGV[8]  the token of the lease that was taken with the ticket, '' for none
-- ARGV[9]  the counts of evicted keys when the ticket was taken, 'run id=count,…' of all servers that may have
--          the key; '' where there is a lease
-- ARGV[10] what the names of fields end with that are kept under the rules of now, '~{rules}'; '' for no rules
-- returns  1 stored, 0 refused, 2 refused because a write is under way
local now = clock()
-- Under maxmemory a floor may have been thrown out. The lease lives in the same key, and would be gone with it;
-- without a lease (the id was not known yet) any eviction since the ticket may have been that of this floor.
if ARGV[8] ~= '' and redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
if ARGV[9] ~= '' then
  local stats, server = redis.pcall('INFO', 'stats'), redis.pcall('INFO', 'server')
  local evicted = type(stats) == 'string' and string.match(stats, 'evicted_keys:(%d+)')
  local process = type(server) == 'string' and string.match(server, 'run_id:(%w+)')
  if evicted and process
      and not string.find(',' .. ARGV[9] .. ',', ',' .. process .. '=' .. evicted .. ',', 1, true) then
    return 0
  end
end
local slot = string.sub(ARGV[2], 3)
if ARGV[8] ~= '' and type(redis.pcall('HLEN', KEYS[1])) == 'number' then
  ended(slot, ARGV[8])
end
local seq = tonumber(ARGV[1])
if math.abs(now - seq) > tonumber(ARGV[6]) then
  return 0
end
local floor = redis.pcall('HGET', KEYS[1], 'floor')
local unknown = type(floor) == 'table'
if type(floor) == 'string' then
  unknown = #floor > 16 or not string.find(floor, '^%d+$') or tonumber(floor) > now + tonumber(ARGV[6])
  if not unknown and seq <= tonumber(floor) then
    return 0
  end
end
if unknown then
  -- Somebody overwrote the floor: every ticket that is out by now may be below it.
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'floor', string.format('%.0f', math.max(now, seq)))
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
  return 0
end
if redis.call('HEXISTS', KEYS[1], 'fence') == 1 and settle(now, '', false) ~= '' then
  return 2
end
local limit = tonumber(ARGV[7])
if string.find(ARGV[2], '#', 1, true) and redis.call('HLEN', KEYS[1]) >= limit
    and redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0 then
  local tokens = {}
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 2) == 'v:' and string.find(field, '#', 1, true) then
      tokens[#tokens + 1] = field
    end
  end
  if #tokens >= limit then
    redis.call('HDEL', KEYS[1], unpack(tokens))
  end
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
if ARGV[10] ~= '' then
  -- Answers of this view that were kept under other rules go, but not each time: a replica that has those rules may
  -- be at work as well, and neither is to keep the other from having any.
  local view, others = string.match(ARGV[2], '^v:([^#~]*)'), {}
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.match(field, '^v:([^#~]*)') == view and string.sub(field, -#ARGV[10]) ~= ARGV[10] then
      others[#others + 1] = field
    end
  end
  local last = #others > 0 and tonumber(redis.call('HGET', KEYS[1], 'rid') or '') or nil
  if #others > 0 and (not last or last > now or now - last > 3600000000) then
    redis.call('HDEL', KEYS[1], unpack(others))
    redis.call('HSET', KEYS[1], 'rid', string.format('%.0f', now))
  end
end
local left = redis.call('PTTL', KEYS[1])
local life = tonumber(ARGV[4])
if left < 0 and type(floor) == 'string' then
  life = math.max(life, tonumber(ARGV[5]))
end
if left < life then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', life))
end
return 1
