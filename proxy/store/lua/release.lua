-- Gives a lease back without an answer that could be stored: all who wait are freed at once.
-- KEYS[1]  user:id:{id}
-- ARGV[1]  the slot
-- ARGV[2]  the lease's token
-- ARGV[3]  the message to send to those who wait
-- returns  1
if type(redis.pcall('HLEN', KEYS[1])) == 'number' then
  ended(ARGV[1], ARGV[2], ARGV[3])
end
return 1
