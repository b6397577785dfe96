//! Signatures of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, one for each secret.
//!
//! Several secrets sign at once, so that a receiver can change from one to the next at leisure.
//! Source: the Standard Webhooks specification, "Signature scheme".

use std::fmt;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::config::Secret;

/// What every secret begins with.
const PREFIX: &str = "whsec_";
/// Shorter keys than 192 bits are outside the specification's advice.
const KEY_BYTES_ADVISED: usize = 24;
/// Secrets are pasted by people; whether the padding came along says nothing about the key.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Signs callbacks with the secrets of one endpoint.
pub(super) struct Signer {
    /// Each has taken its key in already, which is half of what a short signature costs.
    keys: Vec<Hmac<Sha256>>,
    weak: bool,
}

impl Signer {
    /// A signer with these secrets; empty ones are left out.
    ///
    /// # Errors
    /// What is wrong with which of them. The secret itself is never repeated.
    pub(super) fn new(secrets: &[Secret]) -> Result<Self, String> {
        let (mut keys, mut weak) = (Vec::new(), false);
        for (index, secret) in secrets.iter().filter(|secret| !secret.is_empty()).enumerate() {
            let nth = index + 1;
            let encoded = secret.expose().trim();
            let encoded =
                encoded.strip_prefix(PREFIX).ok_or_else(|| format!("secret {nth} does not begin with {PREFIX}"))?;
            let key = LENIENT.decode(encoded).map_err(|_| format!("secret {nth} is not base64 after {PREFIX}"))?;
            if key.is_empty() {
                return Err(format!("secret {nth} has no key after {PREFIX}"));
            }
            weak |= key.len() < KEY_BYTES_ADVISED;
            keys.push(Hmac::new_from_slice(&key).expect("HMAC takes keys of any length"));
        }
        Ok(Self { keys, weak })
    }

    /// Whether nothing is signed.
    pub(super) fn is_silent(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key is shorter than advised.
    pub(super) fn is_weak(&self) -> bool {
        self.weak
    }

    /// The header `webhook-signature`: `v1,<base64>` for each secret, separated by spaces.
    pub(super) fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let signatures: Vec<String> = self.keys.iter().map(|key| sign(key, id, timestamp, body)).collect();
        signatures.join(" ")
    }
}

fn sign(key: &Hmac<Sha256>, id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut mac = key.clone();
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} secrets)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: the example of the Standard Webhooks specification's reference libraries.
    #[test]
    fn the_specifications_example_gives_its_signature() {
        let signer = Signer::new(&[Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]).unwrap();
        let signature = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(!signer.is_weak() && !signer.is_silent());
    }

    #[test]
    fn each_secret_signs() {
        let one = Signer::new(&[Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]).unwrap();
        let other = Signer::new(&[Secret::new("whsec_c2VjcmV0")]).unwrap();
        let both = Signer::new(&[Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), Secret::new("whsec_c2VjcmV0")])
            .unwrap();
        let sign = |signer: &Signer| signer.sign("a", "1", b"{}");
        assert_eq!(sign(&both), format!("{} {}", sign(&one), sign(&other)));
        assert!(other.is_weak());
    }

    #[test]
    fn a_wrong_secret_is_refused_without_being_printed() {
        for (secret, why) in [("MfKQ9r8G", "begin with"), ("whsec_hunter2!", "not base64"), ("whsec_", "no key")] {
            let error = Signer::new(&[Secret::new(secret)]).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2") && !error.contains("MfKQ"), "{error}");
        }
        assert!(Signer::new(&[Secret::default()]).unwrap().is_silent());
    }

    #[test]
    fn padding_does_not_matter() {
        let with = Signer::new(&[Secret::new("whsec_c2VjcmV0MQ==")]).unwrap();
        let without = Signer::new(&[Secret::new("whsec_c2VjcmV0MQ")]).unwrap();
        assert_eq!(with.sign("a", "1", b""), without.sign("a", "1", b""));
    }
}
