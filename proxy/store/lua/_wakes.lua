-- Put before the scripts that end a fill. Who waits for it left a message for the feed; it is sent on.
local function wake(message)
  if message and message ~= '' then
    redis.call('PUBLISH', 'user:feed', message)
  end
end

-- The lease on a slot of KEYS[1] is over. `say` is sent in place of what the waiters left, if given.
local function ended(slot, token, say)
  local held = redis.call('HGET', KEYS[1], 'l:' .. slot)
  if held and string.sub(held, 1, #token + 1) == token .. ':' then
    local waiting = redis.call('HGET', KEYS[1], 'w:' .. slot)
    redis.call('HDEL', KEYS[1], 'l:' .. slot, 'w:' .. slot)
    if waiting then
      wake(say or waiting)
    end
  end
end

-- What waits at an alias stands behind its mark, after a line end.
local function wake_alias(held)
  if type(held) == 'string' and string.sub(held, 1, 2) == '!w' then
    wake(string.match(held, '\n(.*)$'))
  end
end
