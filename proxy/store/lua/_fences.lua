-- Put before the scripts on user:id:{id} that meet fences. The field `fence` holds `id:deadline,…`, deadlines in
-- microseconds of this server's clock. A fence whose deadline has passed belongs to a writer that died: its
-- write may have happened, so it stands until somebody evicts the user. The floor of that eviction is a number of
-- user:seq, as this server's clock may have been set back below tickets that are out.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Takes the fence `except` down, and with `evicting` those whose deadline has passed.
-- Returns what is left as `id:deadline,…` ('' for none), whether `except` stood, whether a deadline has passed.
local function settle(now, except, evicting)
  local held = redis.pcall('HGET', KEYS[1], 'fence')
  if type(held) ~= 'string' then
    return '', false, false
  end
  local live, lapsed, found = {}, false, false
  for id, ends in string.gmatch(held, '([^:,]+):(%d+)') do
    if tonumber(ends) <= now then
      lapsed = true
      if not evicting then
        live[#live + 1] = id .. ':' .. ends
      end
    elseif id == except then
      found = true
    else
      live[#live + 1] = id .. ':' .. ends
    end
  end
  local left = table.concat(live, ',')
  if left == '' then
    redis.call('HDEL', KEYS[1], 'fence')
  elseif left ~= held then
    redis.call('HSET', KEYS[1], 'fence', left)
  end
  return left, found, lapsed
end
