-- Appends to an edge's inbox, which lives on only while somebody renews it.
-- KEYS: inbox; ARGV: note, entries kept at most, life in seconds
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'm', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
