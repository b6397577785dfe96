//! The tree of settings with its defaults.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::key::{Key, Node, join};
use super::{Durability, EndpointKind, FirstJoin, LogFormat, Preset, Secret, Span, StartFrom};

macro_rules! settings {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl Node for $name {
            fn describe(&self, path: &str, keys: &mut Vec<Key>) {
                $(self.$field.describe(&join(path, stringify!($field)), keys);)*
            }
        }
    };
}

settings! {
    /// All settings of all processes.
    Settings {
        /// Where Redis is and how it is used.
        redis: RedisSettings = RedisSettings::default(),
        /// Where Postgres is.
        database: DatabaseSettings = DatabaseSettings::default(),
        /// The WebSocket edge.
        edge: EdgeSettings = EdgeSettings::default(),
        /// What one client, user, address or process may use.
        limits: LimitSettings = LimitSettings::default(),
        /// How tokens are checked.
        auth: AuthSettings = AuthSettings::default(),
        /// Management HTTP.
        api: ApiSettings = ApiSettings::default(),
        /// Metrics and health of a process.
        metrics: MetricsSettings = MetricsSettings::default(),
        /// The archive worker's batches.
        archive: ArchiveSettings = ArchiveSettings::default(),
        /// How long the log and the archive keep what they hold.
        retention: RetentionSettings = RetentionSettings::default(),
        /// Consumer groups: leases, reads, parking.
        group: GroupSettings = GroupSettings::default(),
        /// The replay worker.
        replay: ReplaySettings = ReplaySettings::default(),
        /// HTTP callbacks.
        callback: CallbackSettings = CallbackSettings::default(),
        /// Stopping.
        shutdown: ShutdownSettings = ShutdownSettings::default(),
        /// Logs of the processes themselves.
        log: LogSettings = LogSettings::default(),
    }
}

settings! {
    /// Where Redis is and how it is used.
    RedisSettings {
        /// `redis://[user:password@]host:port[/db]` or `rediss://…`; `redis-cluster://host:port,host:port…`.
        url: Secret = Secret::new("redis://127.0.0.1:6379"),
        /// First part of every key.
        prefix: String = "mill".into(),
        /// Partitions of the log; fixed when the log is created.
        partitions: u16 = 16,
        /// What `sent` promises: `fsync`, `replicated(n)` or `memory`.
        durability: Durability = Durability::Fsync,
        /// Longest wait for the answer to a command.
        command_timeout: Span = Span::secs(1),
        /// Longest wait for a connection.
        connect_timeout: Span = Span::secs(5),
    }
}

settings! {
    /// Where Postgres is.
    DatabaseSettings {
        /// `postgres://user:password@host:port/database`.
        url: Secret = Secret::new("postgres://postgres@127.0.0.1:5432/millstream"),
        /// Whether the archive worker may run migrations.
        migrate: bool = true,
        /// Connections of one process at most.
        connections_max: u32 = 8,
        /// Longest wait for a connection.
        connect_timeout: Span = Span::secs(5),
        /// Longest run of one statement.
        statement_timeout: Span = Span::secs(30),
    }
}

settings! {
    /// The WebSocket edge.
    EdgeSettings {
        /// Address of the WebSocket, `/livez` and `/readyz`.
        listen: String = "0.0.0.0:7400".into(),
        /// First part of this edge's name in Redis; the rest is made up at every start.
        id: String = String::new(),
        /// Origins that browsers may come from; `*` allows all.
        allowed_origins: Vec<String> = Vec::new(),
        /// Where a device without a cursor begins: a number of newest messages, or `"start"`.
        first_join_last: FirstJoin = FirstJoin::Last(50),
        /// How often cursors are written.
        cursor_interval: Span = Span::secs(5),
        /// How long a device's cursors and cids are kept after their last change.
        cursor_ttl: Span = Span::secs(30 * 86_400),
        /// A connection that reads nothing for this long is closed.
        stall_timeout: Span = Span::secs(30),
        /// How long after the upgrade `hello` may take.
        hello_timeout: Span = Span::secs(5),
        /// Interval of the server's pings.
        heartbeat: Span = Span::secs(25),
        /// How long a user whose last connection ended still counts as staying.
        leave_debounce: Span = Span::secs(15),
        /// Bytes that may wait for one connection before its backlog is dropped and replayed.
        outbox_bytes: usize = 1 << 20,
        /// Bytes of the logs' ends that stay in memory once they were read, for those who come back soon; 0: none.
        tail_bytes: usize = 64 << 20,
        /// Live entries that a subscription may hold while it catches up.
        catch_up_entries: usize = 1_000,
        /// How long a batch that Redis did not answer is tried again before `unavailable`.
        publish_retry: Span = Span::secs(2),
        /// How long a join may wait for the replay worker before `unavailable`.
        join_timeout: Span = Span::secs(15),
        /// Over how long reconnecting is spread when the edge stops.
        reconnect_spread: Span = Span::secs(5),
    }
}

settings! {
    /// What one client, user, address or process may use; 0 turns a rate or count off.
    LimitSettings {
        /// Sends of one connection per second.
        sends_per_second: u32 = 100,
        /// Sends of one connection at once.
        send_burst: u32 = 200,
        /// Handshakes of one address per second.
        handshakes_per_second: u32 = 100,
        /// Handshakes of one address at once.
        handshake_burst: u32 = 1_000,
        /// Connections of one user on one edge.
        connections_per_user: u32 = 20,
        /// Connections of one edge.
        connections: usize = 100_000,
        /// Rooms that one connection may have joined.
        rooms: usize = 1_000,
        /// Sends of one connection that may await their answer.
        unacked_sends: usize = 64,
        /// Largest message of the WebSocket, in bytes.
        message_bytes: usize = 64 << 10,
        /// Largest body, in bytes of JSON.
        body_bytes: usize = 32 << 10,
        /// Largest header of a handshake, in bytes.
        header_bytes: usize = 16 << 10,
    }
}

settings! {
    /// How tokens are checked.
    AuthSettings {
        /// `HS256`, `RS256`, `ES256` or `EdDSA`: no other is accepted.
        algorithm: String = "HS256".into(),
        /// Secret of HS256, at least 32 bytes.
        hs256_secret: Secret = Secret::default(),
        /// Public key in PEM, for the other algorithms.
        public_key_file: Option<PathBuf> = None,
        /// JSON Web Key Set; a token names its key by `kid`.
        key_set_file: Option<PathBuf> = None,
        /// Required `aud`, if set.
        audience: Option<String> = None,
        /// Required `iss`, if set.
        issuer: Option<String> = None,
        /// Tolerance for clocks.
        leeway: Span = Span::secs(30),
    }
}

settings! {
    /// Management HTTP.
    ApiSettings {
        /// Its address.
        listen: String = "127.0.0.1:7401".into(),
        /// One key with every scope.
        key: Secret = Secret::default(),
        /// Connections at the same time: backends keep some open; more than this wait outside.
        connections: usize = 4_096,
    }
}

settings! {
    /// Metrics and health of a process.
    MetricsSettings {
        /// Address of `/metrics`, `/livez` and `/readyz`; empty takes the process's default port on loopback.
        listen: String = String::new(),
    }
}

settings! {
    /// The archive worker's batches. A preset sets `max_rows` and `max_delay`; what is set beside it wins.
    ArchiveSettings {
        /// `default`, `high_performance`, `low_latency`, `high_throughput` or `bulk`.
        preset: Preset = Preset::Default,
        /// Rows that close a batch.
        max_rows: usize = 50,
        /// Time since its first row that closes a batch.
        max_delay: Span = Span::secs(60),
        /// Bytes of envelopes that close a batch.
        max_bytes: usize = 4 << 20,
        /// Rows of a batch at most when there is a backlog.
        bulk_rows: usize = 5_000,
        /// Batches that are written at the same time, per process.
        writers: usize = 2,
        /// Whether `user_left` closes the batch that holds its room.
        flush_on_leave: bool = false,
        /// Entries not archived that are worth a warning.
        warn_pending: u64 = 1_000,
    }
}

settings! {
    /// How long the log and the archive keep what they hold.
    RetentionSettings {
        /// Entries of the log younger than this stay.
        min_age: Span = Span::secs(86_400),
        /// Entries from which on a partition's log counts as long; yields to `min_age` and to whoever needs them.
        max_entries: u64 = 1_000_000,
        /// How often the log is trimmed.
        interval: Span = Span::secs(10),
        /// Age at which a month of the archive is dropped; never if absent.
        archive_max_age: Option<Span> = None,
    }
}

settings! {
    /// Consumer groups.
    GroupSettings {
        /// How long a lease holds without renewal.
        lease_ttl: Span = Span::secs(5),
        /// How often leases are renewed and shares compared.
        lease_interval: Span = Span::secs(1),
        /// Entries of one read at most.
        read_entries: usize = 1_000,
        /// Entries that a partition's handler may hold unsettled.
        unsettled_entries: usize = 10_000,
        /// Deliveries after which an entry is parked unseen.
        max_deliveries: u64 = 20,
        /// Dead letters that are kept per group.
        dead_entries: u64 = 100_000,
    }
}

settings! {
    /// The replay worker.
    ReplaySettings {
        /// Entries of one page at most.
        page_entries: usize = 1_000,
        /// Bytes of envelopes of one page at most.
        page_bytes: usize = 320 << 10,
        /// Entries of the log that one request may cost before the archive is asked instead.
        scan_entries: u64 = 20_000,
    }
}

settings! {
    /// HTTP callbacks.
    CallbackSettings {
        /// `whsec_…`, for endpoints that are given by environment.
        secret: Secret = Secret::default(),
        /// Whether endpoints may be on private addresses.
        allow_private: bool = false,
        /// The endpoints.
        endpoints: Vec<EndpointSettings> = Vec::new(),
        /// Attempts after the first one.
        max_retries: u32 = 3,
        /// Wait before the first of them; doubles each time.
        retry_delay: Span = Span::secs(5),
        /// Longest wait between two attempts.
        retry_delay_max: Span = Span::secs(3_600),
        /// One deadline from connecting to the end of the answer's body.
        timeout: Span = Span::secs(30),
    }
}

settings! {
    /// One endpoint: a consumer group of its own.
    EndpointSettings {
        /// Its name: 1–64 of `a-z 0-9 - _`; the group is `callback:<name>`.
        name: String = String::new(),
        /// Where to post.
        url: String = String::new(),
        /// `whsec_…` secrets; the first signs first, all sign.
        secrets: Vec<Secret> = Vec::new(),
        /// What it wants.
        kinds: Vec<EndpointKind> = vec![EndpointKind::Data],
        /// Pattern of the rooms it wants, with `*`.
        rooms: String = "*".into(),
        /// Callbacks under way at the same time, in different rooms.
        concurrency: usize = 16,
        /// Where a new endpoint begins in the log.
        start: StartFrom = StartFrom::Oldest,
        /// Attempts after the first; the section's value if absent.
        max_retries: Option<u32> = None,
        /// Age of an item at which it is given up, whatever attempts are left.
        max_age: Option<Span> = None,
        /// Wait before the first retry; the section's value if absent.
        retry_delay: Option<Span> = None,
        /// Deadline of an attempt; the section's value if absent.
        timeout: Option<Span> = None,
        /// Whether it may be on a private address; the section's value if absent.
        allow_private: Option<bool> = None,
    }
}

settings! {
    /// Stopping.
    ShutdownSettings {
        /// How long a process may take to finish what it holds.
        grace: Span = Span::secs(20),
    }
}

settings! {
    /// Logs of the processes themselves.
    LogSettings {
        /// `text` or `json`.
        format: LogFormat = LogFormat::Text,
        /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,millstream::edge=debug`.
        level: String = "info".into(),
    }
}
