//! The fingerprint by which a repeated message is known.

use sha2::{Digest, Sha256};

use crate::model::{Message, Room};

/// 16 bytes of the cid's digest, then 8 bytes of the digest of everything that must be equal in a
/// repeat: room, kind, body and file.
///
/// Stable over processes and versions: Redis remembers it for weeks.
pub fn mark(room: &Room, message: &Message<'_>) -> [u8; 24] {
    let mut mark = [0; 24];
    mark[..16].copy_from_slice(&Sha256::digest(message.cid.as_bytes())[..16]);
    let mut content = Sha256::new();
    let file = message.file.map_or(["", ""], |file| [file.url, file.name]);
    for part in [room.as_str(), message.kind, message.body, file[0], file[1]] {
        content.update((part.len() as u64).to_be_bytes());
        content.update(part.as_bytes());
    }
    mark[16..].copy_from_slice(&content.finalize()[..8]);
    mark
}
