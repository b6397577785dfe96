-- The archive: what the log held, for as long as retention says.
--
-- Keys are compared as bytes (COLLATE "C"): ids, names and indexes then mean the same everywhere.
-- `ms` and `n` are the two parts of the entry's id in the log; `ms` is the time of acceptance, so
-- `created_at` follows from it. `slot` is crc16(room): `slot % P` is the partition of the log.
-- Tables are partitioned by month of `ms`; the worker makes months ahead of need, and the default
-- partitions take whatever has no month (a clock gone wrong), so that an insert never waits for one.

CREATE TABLE messages (
    room        text COLLATE "C" NOT NULL,
    ms          bigint NOT NULL,
    n           bigint NOT NULL,
    seq         bigint NOT NULL,
    slot        integer NOT NULL,
    user_id     text COLLATE "C" NOT NULL,
    device      text COLLATE "C" NOT NULL,
    cid         text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    body        jsonb NOT NULL,
    sender_type text COLLATE "C" NOT NULL,
    file_url    text,
    file_name   text,
    created_at  timestamptz NOT NULL GENERATED ALWAYS AS (to_timestamp(ms::double precision / 1000)) STORED,
    archived_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (room, ms, n)
) PARTITION BY RANGE (ms);

-- Pages of a room by number.
CREATE INDEX messages_room_seq ON messages (room, seq);
-- Ranges of time over all rooms: rows come nearly in that order, so a summary per block is enough.
CREATE INDEX messages_ms ON messages USING brin (ms) WITH (pages_per_range = 32, autosummarize = on);
CREATE TABLE messages_default PARTITION OF messages DEFAULT;

CREATE TABLE room_events (
    room        text COLLATE "C" NOT NULL,
    ms          bigint NOT NULL,
    n           bigint NOT NULL,
    seq         bigint NOT NULL,
    slot        integer NOT NULL,
    event       text COLLATE "C" NOT NULL,
    user_id     text COLLATE "C",
    data        jsonb,
    created_at  timestamptz NOT NULL GENERATED ALWAYS AS (to_timestamp(ms::double precision / 1000)) STORED,
    archived_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (room, ms, n)
) PARTITION BY RANGE (ms);

CREATE INDEX room_events_ms ON room_events USING brin (ms) WITH (pages_per_range = 32, autosummarize = on);
CREATE TABLE room_events_default PARTITION OF room_events DEFAULT;

-- A session is a user's stay in a room. It begins with a `user_joined` (whose id is its key) and ends
-- with the first `user_left` of that user and room after it: a function of the set of events, so
-- repeating one changes nothing.
CREATE TABLE room_sessions (
    room      text COLLATE "C" NOT NULL,
    user_id   text COLLATE "C" NOT NULL,
    ms        bigint NOT NULL,
    n         bigint NOT NULL,
    left_ms   bigint,
    left_n    bigint,
    joined_at timestamptz NOT NULL GENERATED ALWAYS AS (to_timestamp(ms::double precision / 1000)) STORED,
    left_at   timestamptz GENERATED ALWAYS AS (to_timestamp(left_ms::double precision / 1000)) STORED,
    PRIMARY KEY (room, user_id, ms, n)
);

CREATE INDEX room_sessions_joined ON room_sessions (room, ms, n);

-- One row per room that ever had an entry. An emptied Redis goes on numbering from here.
CREATE TABLE rooms (
    room       text COLLATE "C" PRIMARY KEY,
    slot       integer NOT NULL,
    seq        bigint NOT NULL,
    head_ms    bigint NOT NULL,
    head_n     bigint NOT NULL,
    created_at timestamptz NOT NULL,
    closed_at  timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);

-- What a device has taken over in a room.
CREATE TABLE cursors (
    user_id    text COLLATE "C" NOT NULL,
    device     text COLLATE "C" NOT NULL,
    room       text COLLATE "C" NOT NULL,
    ms         bigint NOT NULL,
    n          bigint NOT NULL,
    seq        bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, device, room)
);

-- Up to where each consumer group has settled everything. `token` fences former owners of a partition.
CREATE TABLE checkpoints (
    "group"    text COLLATE "C" NOT NULL,
    partition  integer NOT NULL,
    ms         bigint NOT NULL,
    n          bigint NOT NULL,
    token      bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY ("group", partition)
) WITH (fillfactor = 50);
