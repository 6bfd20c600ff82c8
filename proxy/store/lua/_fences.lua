-- Put before the scripts on user:id:{id} that meet fences. The field `fence` holds `id:deadline,…`, deadlines in
-- microseconds of this server's clock. A fence whose deadline has passed belongs to a writer that died: its
-- write may have happened, so the user is evicted before anything else is done here.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Live fences as `id:deadline,…`, '' for none, without that of `except`. Evicts if a deadline has passed.
local function settle(now, retention, except)
  local held = redis.pcall('HGET', KEYS[1], 'fence')
  if type(held) ~= 'string' then
    return '', false
  end
  local live, lapsed, found = {}, false, false
  for id, ends in string.gmatch(held, '([^:,]+):(%d+)') do
    if tonumber(ends) <= now then
      lapsed = true
    elseif id == except then
      found = true
    else
      live[#live + 1] = id .. ':' .. ends
    end
  end
  if lapsed then
    for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
      if string.sub(field, 1, 2) == 'v:' then
        redis.call('HDEL', KEYS[1], field)
      end
    end
    redis.call('HSET', KEYS[1], 'floor', string.format('%.0f', now))
    redis.call('PEXPIRE', KEYS[1], retention)
  end
  local left = table.concat(live, ',')
  if left == '' then
    redis.call('HDEL', KEYS[1], 'fence')
  else
    redis.call('HSET', KEYS[1], 'fence', left)
  end
  return left, found
end
