-- Become the writer of a topic-partition. KEYS[1] the partition's meta hash. ARGV: writer, start offset if this is the first claim, now (ms).
-- Returns the meta hash as it is afterwards.
redis.call('HSETNX', KEYS[1], 'start_offset', ARGV[2])
redis.call('HSETNX', KEYS[1], 'applied_offset', '-1')
redis.call('HSETNX', KEYS[1], 'applied_at', ARGV[3])
redis.call('HSET', KEYS[1], 'writer', ARGV[1])
return redis.call('HGETALL', KEYS[1])
