//! Names with limits: rooms, users, devices, cids; and the partition of a room.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::Error;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` against the limits of this name.
            ///
            /// # Errors
            /// [`Kind::Invalid`](crate::error::Kind::Invalid) outside them.
            pub fn new(text: &str) -> Result<Self, Error> {
                if Self::is_valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Error::invalid(format!("accept {:?} as a {}", text.chars().take(140).collect::<String>(), $what)))
                }
            }

            /// Whether `text` is within the limits, for who needs no value of its own.
            pub fn is_valid(text: &str) -> bool {
                let valid: fn(&str) -> bool = $valid;
                valid(text)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;

                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "a {}", $what)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::new(text).map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Text)
            }
        }
    };
}

/// Longest name of a room in bytes (protocol, section 2).
pub const ROOM_BYTES_MAX: usize = 128;
/// Longest user, device or cid in bytes (protocol, section 2).
pub const NAME_BYTES_MAX: usize = 64;

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.contains('\0')
}

name!(
    /// A named conversation: 1–128 bytes of `A-Z a-z 0-9 _ - . : / @`.
    ///
    /// ```
    /// use millstream::model::Room;
    /// assert!(Room::new("team:42/general").is_ok());
    /// assert!(Room::new("with space").is_err());
    /// assert!(Room::new("@all").unwrap().is_system());
    /// ```
    Room,
    "room name (1 to 128 bytes of A-Z a-z 0-9 _ - . : / @)",
    |text| {
        !text.is_empty()
            && text.len() <= ROOM_BYTES_MAX
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:/@".contains(&b))
    }
);
name!(
    /// A user: the `sub` of a token, 1–64 bytes.
    UserId,
    "user (1 to 64 bytes)",
    is_name
);
name!(
    /// One installation of one user: 1–64 bytes, stable over reconnects.
    DeviceId,
    "device (1 to 64 bytes)",
    is_name
);
name!(
    /// The client's own id of a message it sends: 1–64 bytes, unique per device.
    Cid,
    "cid (1 to 64 bytes)",
    is_name
);

impl Room {
    /// The room that everybody reads.
    pub fn all() -> Self {
        Self("@all".into())
    }

    /// Whether the room belongs to the system (its name begins with `@`).
    pub fn is_system(&self) -> bool {
        self.0.starts_with('@')
    }

    /// The inbox of a user: `@user:<user>`. A name that holds what a room's name may not is written with
    /// `.xx` escapes behind `@user-x:`.
    ///
    /// ```
    /// use millstream::model::{Room, UserId};
    /// assert_eq!(Room::inbox(&UserId::new("alice").unwrap()).as_str(), "@user:alice");
    /// ```
    pub fn inbox(user: &UserId) -> Self {
        if let Ok(room) = Self::new(&format!("@user:{user}")) {
            return room;
        }
        // A prefix of its own: no plain name can come out the same.
        let mut name = String::from("@user-x:");
        for byte in user.bytes() {
            if byte.is_ascii_alphanumeric() || b"_-:/@".contains(&byte) {
                name.push(char::from(byte));
            } else {
                name.push_str(&format!(".{byte:02x}"));
            }
        }
        if name.len() > ROOM_BYTES_MAX {
            // 64 bytes escaped fill up to 198: beyond the limit the digest keeps the name unique.
            let digest = <sha2::Sha256 as sha2::Digest>::digest(user.as_bytes());
            name = format!("@user-sha256:{}", digest.iter().map(|b| format!("{b:02x}")).collect::<String>());
        }
        Self(name.into())
    }
}

/// One of the P streams of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub u16);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How many partitions the log has; fixed when it is created.
///
/// ```
/// use millstream::model::{Partitions, Room};
/// let partitions = Partitions::new(16).unwrap();
/// assert_eq!(partitions.of(&Room::new("123456789").unwrap()).0, 0x31C3 % 16);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partitions(u16);

/// CRC-16/XMODEM, as Redis Cluster hashes keys.
/// Source: Redis Cluster specification, appendix A.
const CRC16: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM);

impl Partitions {
    /// `count` partitions, 1 to 4,096.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) outside that range.
    pub fn new(count: u16) -> Result<Self, Error> {
        if (1..=4096).contains(&count) {
            Ok(Self(count))
        } else {
            Err(Error::invalid(format!("have {count} partitions: 1 to 4096 are possible")))
        }
    }

    /// How many there are.
    pub fn count(self) -> u16 {
        self.0
    }

    /// The partition of a room: `crc16(room) % P`.
    pub fn of(self, room: &str) -> PartitionId {
        PartitionId(Self::slot(room) % self.0)
    }

    /// `crc16(room)`, from which the partition follows for every P.
    pub fn slot(room: &str) -> u16 {
        CRC16.checksum(room.as_bytes())
    }

    /// All partitions, in order.
    pub fn all(self) -> impl Iterator<Item = PartitionId> + Clone {
        (0..self.0).map(PartitionId)
    }
}
