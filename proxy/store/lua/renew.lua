-- Renews a replica's lease on the feed, and echoes it down the feed so that the replica knows that everything
-- announced before has reached it. The channels are no keys: they need not be in the slot of KEYS[1].
-- KEYS[1]  user:members, a hash: replica → the end of its lease in microseconds of this server's clock. The field ''
--          is everybody who was in a table that was lost (FLUSHALL, eviction of the key, another server, which
--          may have an old one): until the last lease that it can have held is over, somebody may have one and
--          not be listed. The field '@' is the server's run id, and '#' that of the process in which everybody was
--          evicted. A field that begins with '!' notes writes under way whose users nobody can name, see
--          pledge.lua: `deadline:life`
-- ARGV[1]  the replica
-- ARGV[2]  the lease in microseconds
-- ARGV[3]  the replica's own channel
-- ARGV[4]  the echo
-- ARGV[5]  the key's life in milliseconds
-- ARGV[6]  the server's run id, '' if unknown
-- ARGV[7]  for how many microseconds this replica takes over the writes whose proxy has died
-- ARGV[8]  what tells all that this replica takes a lease, sent where it was not in the table
-- returns  the microseconds for which '' stands, so for which writes have to wait; 1 where there was no table, so
--          that such writes may have been lost with one, else 0; all who have a lease; and the fields of those
--          writes whose proxy has died, each with what it holds from now on: this replica is to evict everybody and
--          to remove them
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local members = redis.pcall('HGETALL', KEYS[1])
if members.err then
  redis.call('DEL', KEYS[1])
  members = {}
end
local server = redis.call('HGET', KEYS[1], '@')
local unlisted = tonumber(redis.call('HGET', KEYS[1], '') or '') or 0
if not server or (server ~= ARGV[6] and server ~= '' and ARGV[6] ~= '') then
  redis.call('HSET', KEYS[1], '@', ARGV[6])
  unlisted = now + tonumber(ARGV[2])
end
local lost, live = {}, {}
for i = 1, #members, 2 do
  local name, ends = members[i], tonumber(members[i + 1])
  if string.sub(name, 1, 1) == '!' then
    local deadline, life = string.match(members[i + 1], '^(%d+):(%d+)$')
    -- One that this clock gives in the future was made before the clock was set back.
    if not deadline or tonumber(deadline) <= now or tonumber(deadline) - tonumber(life) > now + 1000000 then
      local claim = string.format('%.0f', now + tonumber(ARGV[7])) .. ':' .. ARGV[7]
      redis.call('HSET', KEYS[1], name, claim)
      lost[#lost + 1] = name
      lost[#lost + 1] = claim
    end
  elseif name ~= '@' and name ~= '#' and name ~= '' then
    if ends and ends >= now and ends <= now + 60000000 then
      live[#live + 1] = name
    else
      redis.call('HDEL', KEYS[1], name)
      if not ends or ends > now then
        -- No clock of ours can have given that lease, or it was set back: it may be alive.
        unlisted = now + tonumber(ARGV[2])
      end
    end
  end
end
unlisted = math.min(unlisted, now + tonumber(ARGV[2]))
if unlisted > now then
  redis.call('HSET', KEYS[1], '', string.format('%.0f', unlisted))
end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  redis.call('PUBLISH', 'user:feed', ARGV[8])
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + tonumber(ARGV[2])))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return {math.max(unlisted - now, 0), server and 0 or 1, live, unpack(lost)}
