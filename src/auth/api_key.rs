//! Keys of the management API.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::config::Secret;

/// A key as it is kept: only its digest. Compared in constant time.
///
/// ```
/// use millstream::{auth::ApiKey, config::Secret};
/// let key = ApiKey::new(&Secret::new("correct horse battery staple")).unwrap();
/// assert!(key.matches("correct horse battery staple"));
/// assert!(!key.matches("correct horse"));
/// assert!(ApiKey::new(&Secret::default()).is_none(), "no key opens nothing");
/// ```
#[derive(Clone)]
pub struct ApiKey {
    digest: [u8; 32],
}

impl ApiKey {
    /// The key, or nothing if none is set.
    pub fn new(key: &Secret) -> Option<Self> {
        (!key.is_empty()).then(|| Self { digest: digest(key.expose()) })
    }

    /// Whether `given` is the key. Takes the same time whatever part of it is right.
    pub fn matches(&self, given: &str) -> bool {
        self.digest.ct_eq(&digest(given)).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(***)")
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
