//! Who may come in, and what they may do: tokens, rights, API keys.
//!
//! Owns the rules of design, section 4: the algorithm is the one that is configured, whatever a
//! token says; `exp` and `sub` are required; rights come from the token alone. Pure: it knows the
//! clock and its keys, and no connection.
//!
//! **Invariant:** no pattern without a leading `@` ever matches a room of the system.

mod api_key;
mod mint;
mod pattern;
mod rights;
#[cfg(test)]
mod tests;
mod verify;

pub use api_key::ApiKey;
pub use mint::{Mint, mint};
pub use pattern::matches;
pub use rights::{Access, Grant, Rights};
pub use verify::{Claims, Refusal, TOKEN_BYTES_MAX, Verifier};
