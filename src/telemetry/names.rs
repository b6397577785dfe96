//! The table of all metrics: name, kind, unit, help, labels.
//!
//! Labels come from small closed sets: a partition's number, a configured name of a group or an
//! endpoint, a word that the code knows. Never a room, a user, an id or an error text.
//!
//! **Invariant:** every metric that the crate records is declared here, and nowhere else.

use metrics::Unit;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How observations are distributed, by these upper bounds.
    Histogram(&'static [f64]),
}

/// The declaration of a metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name in Prometheus.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// What is counted or measured.
    pub unit: Unit,
    /// A sentence for people.
    pub help: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
}

/// From 100 µs, a commit group on a fast disk, to half a minute, our longest deadlines.
const SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Ages of batches: the presets wait from 1 s to 120 s.
const AGE_SECONDS: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0];
/// Sizes of batches, reads and pages: 10,000 is the largest that any setting's default allows.
const COUNTS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 50_000.0];

macro_rules! metrics_table {
    ($($const:ident = $kind:ident$(($buckets:expr))? $name:literal $unit:ident [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub const $const: &str = $name;)*

        /// All metrics.
        pub const ALL: &[Metric] = &[
            $(Metric {
                name: $name,
                kind: MetricKind::$kind$(($buckets))?,
                unit: Unit::$unit,
                help: $help,
                labels: &[$($label),*],
            },)*
        ];
    };
}

metrics_table! {
    // Every process.
    BUILD_INFO = Gauge "millstream_build_info" Count ["version"] "1, labelled with the version that runs.";
    START_TIME = Gauge "millstream_start_time_seconds" Seconds [] "When the process started, as Unix time.";
    READY = Gauge "millstream_ready" Count ["part"] "Whether this part's last check succeeded within the last 2 s.";
    DURABILITY_VERIFIED = Gauge "millstream_durability_verified" Count [] "1 if Redis was seen to keep what redis.durability promises; 0 if it did not allow the question.";
    REDIS_ERRORS = Counter "millstream_redis_errors_total" Count ["kind"] "Commands that Redis did not answer or refused, by kind of error.";
    POSTGRES_ERRORS = Counter "millstream_postgres_errors_total" Count ["kind"] "Statements that Postgres did not answer or refused, by kind of error.";
    PANICS = Counter "millstream_panics_total" Count [] "Panics of tasks: each is a defect.";

    // Edge: connections.
    CONNECTIONS = Gauge "millstream_connections" Count ["protocol"] "Open connections, by subprotocol.";
    CONNECTIONS_OPENED = Counter "millstream_connections_opened_total" Count [] "Connections that were welcomed.";
    CONNECTIONS_CLOSED = Counter "millstream_connections_closed_total" Count ["reason"] "Connections that ended, by close code or cause.";
    CONNECTIONS_MAX = Gauge "millstream_connections_max" Count [] "Connections that this edge lets in: limits.connections, or fewer if the process may not open so many files.";
    ACCEPT_WAITS = Counter "millstream_accept_waits_total" Count [] "Times that newcomers had to wait outside because every file that clients may have was open.";
    HANDSHAKES_REFUSED = Counter "millstream_handshakes_refused_total" Count ["reason"] "Handshakes that were refused, by reason.";
    TAKE_OVERS = Counter "millstream_take_overs_total" Count ["outcome"] "Devices that came from another edge, by what that did: replaced its connection, was gone (killed), or silent (no answer in time).";
    SUBSCRIPTIONS = Gauge "millstream_subscriptions" Count [] "Rooms joined, over all connections.";
    FRAMES_RECEIVED = Counter "millstream_frames_received_total" Count ["type"] "Frames from clients, by type.";
    OUTBOX_BYTES = Gauge "millstream_outbox_bytes" Bytes [] "Bytes of live entries that wait in the outboxes of all connections; looked at every second.";
    SLOW_READERS = Gauge "millstream_slow_readers" Count [] "Connections that read so slowly that live entries for them are dropped, to be replayed; looked at every second.";
    SLOW_READERS_TOTAL = Counter "millstream_slow_readers_total" Count [] "Times that a connection read so slowly that its backlog was dropped.";
    SIGNALS_DROPPED = Counter "millstream_signals_dropped_total" Count [] "Signals that were not delivered because a client read slowly.";

    // Edge: publishing.
    SENDS_ACCEPTED = Counter "millstream_sends_accepted_total" Count [] "Sends that were answered by sent.";
    SENDS_REFUSED = Counter "millstream_sends_refused_total" Count ["reason"] "Sends that were answered by an error, by its code.";
    SENDS_DUPLICATE = Counter "millstream_sends_duplicate_total" Count [] "Sends that repeated an accepted cid and were answered by the first answer.";
    SENDS_SUPERSEDED = Counter "millstream_sends_superseded_total" Count [] "Sends that were not stored because a newer connection of their device had stored something: their connection was closed.";
    PUBLISH_SECONDS = Histogram(SECONDS) "millstream_publish_seconds" Seconds [] "From the send frame to its answer.";
    PUBLISH_BATCH_MESSAGES = Histogram(COUNTS) "millstream_publish_batch_messages" Count [] "Messages of one call of the publish script.";
    PUBLISH_RETRIES = Counter "millstream_publish_retries_total" Count ["kind"] "Calls of the publish script that were repeated, by kind of error.";

    // Edge: delivering.
    DELIVERIES = Counter "millstream_deliveries_total" Count ["kind"] "Entries and signals handed to sockets, by kind.";
    DELIVERY_SECONDS = Histogram(SECONDS) "millstream_delivery_seconds" Seconds [] "From acceptance to the socket, of live messages.";
    CATCH_UPS = Counter "millstream_catch_ups_total" Count ["cause"] "Times that a subscription began to catch up, by cause.";
    CATCHING_UP = Gauge "millstream_catching_up" Count [] "Subscriptions that are catching up.";
    CATCH_UP_SECONDS = Histogram(SECONDS) "millstream_catch_up_seconds" Seconds [] "From the beginning of a catch-up to live.";
    RESETS = Counter "millstream_resets_total" Count ["reason"] "Cursors that could not be honoured, by reason.";
    TAIL_ENTRIES = Counter "millstream_tail_entries_total" Count [] "Entries read from the log by the tail.";
    TAIL_HOLES = Counter "millstream_tail_holes_total" Count [] "Holes in the numbers of a room that the tail saw.";
    TAIL_PARTITIONS = Gauge "millstream_tail_partitions" Count [] "Partitions that the edge tails.";
    ASKS = Counter "millstream_asks_total" Count ["kind"] "Requests of the edge for what was missed or is past, by kind.";
    ASKS_REPEATED = Counter "millstream_asks_repeated_total" Count [] "Requests to the replay workers that were asked again after a time-out.";
    ASK_SECONDS = Histogram(SECONDS) "millstream_ask_seconds" Seconds [] "From a request for what was missed or is past to its answer.";
    CURSORS_SAVED = Counter "millstream_cursors_saved_total" Count [] "Cursors of devices that were written.";
    CURSOR_SAVE_SECONDS = Histogram(SECONDS) "millstream_cursor_save_seconds" Seconds [] "Writing the changed cursors of all devices of the edge.";

    // Groups.
    GROUP_LAG_ENTRIES = Gauge "millstream_group_lag_entries" Count ["group", "partition"] "Entries of the log that the group has not settled.";
    GROUP_LAG_SECONDS = Gauge "millstream_group_lag_seconds" Seconds ["group", "partition"] "Age of the oldest entry that the group has not settled.";
    GROUP_PENDING_ENTRIES = Gauge "millstream_group_pending_entries" Count ["group", "partition"] "Entries delivered to the group and not acknowledged.";
    GROUP_OLDEST_PENDING_SECONDS = Gauge "millstream_group_oldest_pending_seconds" Seconds ["group", "partition"] "Age of the oldest entry delivered and not acknowledged.";
    GROUP_DONE = Counter "millstream_group_done_total" Count ["group"] "Entries whose effect is durable.";
    GROUP_RETRIED = Counter "millstream_group_retried_total" Count ["group"] "Entries that are to be delivered again.";
    GROUP_PARKED = Counter "millstream_group_parked_total" Count ["group", "reason"] "Entries moved to the dead letters, by reason.";
    GROUP_DEAD_LETTERS = Gauge "millstream_group_dead_letters" Count ["group"] "Dead letters that the group holds, over all partitions: each worker shows the same.";
    GROUP_READ_ENTRIES = Histogram(COUNTS) "millstream_group_read_entries" Count ["group"] "Entries of one read.";
    GROUP_READ_ERRORS = Counter "millstream_group_read_errors_total" Count ["group", "kind"] "Reads that failed and were repeated, by kind of error.";
    GROUP_ACK_SECONDS = Histogram(SECONDS) "millstream_group_ack_seconds" Seconds ["group"] "Acknowledging a batch of entries.";
    GROUP_TAKE_OVERS = Counter "millstream_group_take_overs_total" Count ["group"] "Partitions taken over.";
    GROUP_LEASES_LOST = Counter "millstream_group_leases_lost_total" Count ["group"] "Partitions lost without being handed over.";
    GROUP_RECREATED = Counter "millstream_group_recreated_total" Count ["group"] "Times that the group was gone from Redis and was made again at its checkpoint.";
    GROUP_MOVED_BACK = Counter "millstream_group_moved_back_total" Count ["group"] "Times that the group in Redis stood after entries that its owner was not given and was moved back.";
    GROUP_PARTITIONS = Gauge "millstream_group_partitions" Count ["group"] "Partitions that this worker owns.";
    GROUP_WORKERS = Gauge "millstream_group_workers" Count ["group"] "Live workers of the group, as this one sees them.";

    // The log.
    LOG_ENTRIES = Gauge "millstream_log_entries" Count ["partition"] "Entries that the log of a partition holds.";
    LOG_TRIMMED = Counter "millstream_log_trimmed_entries_total" Count ["partition"] "Entries trimmed from the log of a partition.";
    LOG_DESTROYED = Counter "millstream_log_destroyed_entries_total" Count ["group"] "Entries destroyed by a forced trim before the group had settled them.";
    PARTITIONS_INITIALISED = Counter "millstream_partitions_initialised_total" Count [] "Partitions whose numbering was restored from the archive.";

    // Archive.
    ARCHIVE_ROWS = Counter "millstream_archive_rows_total" Count [] "Rows written.";
    ARCHIVE_DUPLICATES = Counter "millstream_archive_duplicates_total" Count [] "Rows that were there already.";
    ARCHIVE_BATCH_ROWS = Histogram(COUNTS) "millstream_archive_batch_rows" Count ["cause"] "Rows of a batch, by what closed it.";
    ARCHIVE_BATCH_SECONDS = Histogram(AGE_SECONDS) "millstream_archive_batch_seconds" Seconds ["cause"] "From the first row of a batch to its commit, by what closed it.";
    ARCHIVE_COMMIT_SECONDS = Histogram(SECONDS) "millstream_archive_commit_seconds" Seconds [] "The transaction of a batch.";
    ARCHIVE_FAILURES = Counter "millstream_archive_failures_total" Count ["kind"] "Transactions that failed and were repeated, by kind of error.";
    ARCHIVE_PENDING_ROWS = Gauge "millstream_archive_pending_rows" Count [] "Rows held in batches that are not committed.";
    ARCHIVE_MONTHS_DROPPED = Counter "millstream_archive_months_dropped_total" Count [] "Months dropped from the archive by retention.";

    // Replay.
    REPLAY_REQUESTS = Counter "millstream_replay_requests_total" Count ["kind"] "Requests of edges that were answered, by kind.";
    REPLAY_PAGES = Counter "millstream_replay_pages_total" Count ["source"] "Pages given, by where they came from.";
    REPLAY_UNAVAILABLE = Counter "millstream_replay_unavailable_total" Count [] "Questions that could not be answered truthfully and have to be asked again.";
    REPLAY_ENTRIES = Counter "millstream_replay_entries_total" Count ["source"] "Entries given in pages, by where they came from.";
    REPLAY_SCAN_ENTRIES = Histogram(COUNTS) "millstream_replay_scan_entries" Count [] "Entries of the log read for one scan.";
    REPLAY_BATCH_REQUESTS = Histogram(COUNTS) "millstream_replay_batch_requests" Count [] "Requests that shared one scan.";
    REPLAY_SECONDS = Histogram(SECONDS) "millstream_replay_seconds" Seconds [] "From reading a request to its answer.";

    // Callback.
    CALLBACK_ATTEMPTS = Counter "millstream_callback_attempts_total" Count ["endpoint", "outcome"] "Attempts to post to an endpoint, by outcome.";
    CALLBACK_SECONDS = Histogram(SECONDS) "millstream_callback_seconds" Seconds ["endpoint"] "From connecting to the end of the answer's body.";
    CALLBACK_IN_FLIGHT = Gauge "millstream_callback_in_flight" Count ["endpoint"] "Attempts under way.";
    CALLBACK_WAITING = Gauge "millstream_callback_waiting" Count ["endpoint"] "Entries that wait for their turn or their next attempt.";
    CALLBACK_BREAKER_OPEN = Gauge "millstream_callback_breaker_open" Count ["endpoint"] "1 while the endpoint gets no attempts because the last ones failed.";
    CALLBACK_PAUSED = Gauge "millstream_callback_paused" Count ["endpoint"] "1 while the endpoint is paused (it answered 410).";

    // API.
    API_REQUESTS = Counter "millstream_api_requests_total" Count ["method", "route", "status"] "Requests answered, by route and status.";
    API_SECONDS = Histogram(SECONDS) "millstream_api_seconds" Seconds ["route"] "From a request to its answer.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_say_their_kind_and_unit_and_are_unique() {
        let mut seen = HashSet::new();
        for metric in ALL {
            assert!(seen.insert(metric.name), "{} is declared twice", metric.name);
            assert!(metric.name.starts_with("millstream_"), "{}", metric.name);
            assert_eq!(metric.kind == MetricKind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert_eq!(metric.unit == Unit::Seconds, metric.name.ends_with("_seconds"), "{}", metric.name);
            assert_eq!(metric.unit == Unit::Bytes, metric.name.ends_with("_bytes"), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}: the help is a sentence", metric.name);
        }
    }

    #[test]
    fn buckets_rise() {
        for metric in ALL {
            if let MetricKind::Histogram(buckets) = metric.kind {
                assert!(buckets.windows(2).all(|pair| pair[0] < pair[1]), "{}", metric.name);
            }
        }
    }
}
