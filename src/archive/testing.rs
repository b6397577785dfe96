//! Deliveries as the runner would hand them out.

use bytes::Bytes;

use crate::group::Delivery;
use crate::model::Entry;
use crate::stream::RawEntry;

/// First deliveries of these entries.
pub(super) fn deliveries(entries: &[Entry]) -> Vec<Delivery> {
    entries.iter().map(delivery).collect()
}

fn delivery(entry: &Entry) -> Delivery {
    let field = |name: &'static str, value: Bytes| (Bytes::from_static(name.as_bytes()), value);
    let fields = vec![
        field("r", Bytes::copy_from_slice(entry.room.as_bytes())),
        field("s", Bytes::from(entry.seq.to_string())),
        field("k", Bytes::from_static(entry.kind.letter().as_bytes())),
        field("e", entry.envelope.clone()),
    ];
    Delivery { id: entry.id, raw: RawEntry { id: entry.id, fields }, deliveries: 1, replay_of: None }
}
