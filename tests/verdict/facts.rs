//! What facts tell, to be changed.

use millstream::model::Room;
use millstream::verify::{Content, Digest, Fact, Seen};

/// The entry that a fact tells.
pub(crate) fn seen_mut(fact: &mut Fact) -> Option<&mut Seen> {
    match fact {
        Fact::Delivered { seen, .. }
        | Fact::Called { seen, .. }
        | Fact::Logged { seen, .. }
        | Fact::Archived { seen } => Some(seen),
        _ => None,
    }
}

/// The body of that entry, if it is a message.
pub(crate) fn body_of_mut(fact: &mut Fact) -> Option<&mut Digest> {
    match &mut seen_mut(fact)?.content {
        Content::Message { body, .. } => Some(body),
        Content::Event(_) => None,
    }
}

/// The same, to look at.
pub(crate) fn body_of(fact: &Fact) -> Option<Digest> {
    body_of_mut(&mut fact.clone()).copied()
}

/// Every number of a room that a fact tells.
pub(crate) fn for_each_seq(fact: &mut Fact, of: &Room, change: &mut dyn FnMut(&mut u64)) {
    if let Some(seen) = seen_mut(fact) {
        if seen.room == *of {
            change(&mut seen.seq);
        }
        return;
    }
    match fact {
        Fact::Joined { room, asked, since, head, .. } if room == of => {
            change(&mut since.seq);
            change(&mut head.seq);
            if let Some(millstream::model::Since::Cursor(cursor)) = asked {
                change(&mut cursor.seq);
            }
        }
        Fact::Accepted { room, seq, .. } | Fact::Live { room, seq } | Fact::Acked { room, seq } if room == of => {
            change(seq)
        }
        Fact::Reset { room, from: cursor, .. } | Fact::Saved { room, cursor, .. } if room == of => {
            change(&mut cursor.seq);
        }
        _ => {}
    }
}
