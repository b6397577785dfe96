//! Checks tokens: the signature first, then the times, then what they say.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use super::rights::{self, Rights};
use crate::config::AuthSettings;
use crate::error::{Error, Kind, Result};
use crate::model::{SenderType, UserId};

/// Longest token that is looked at: longer ones cost time and memory before they are refused, and
/// fit no header anyway.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// What a token that was checked says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who it is.
    pub user: UserId,
    /// As what it sends.
    pub sender_type: SenderType,
    /// What it may do.
    pub rights: Rights,
    /// When the token ends, in milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
}

/// Why a token is refused. Holds nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It is longer than [`TOKEN_BYTES_MAX`].
    TooLong,
    /// It is no token.
    Malformed,
    /// It has another algorithm than the configured one, or none.
    Algorithm,
    /// Its `kid` is missing or unknown, or it demands what we don't do (`crit`).
    Key,
    /// Its signature is not of our key.
    Signature,
    /// It has ended.
    Expired,
    /// It has not begun.
    NotYet,
    /// It is for somebody else.
    Audience,
    /// It is from somebody else.
    Issuer,
    /// A claim is missing or outside its limits.
    Claims,
}

/// Checks tokens with the configured algorithm and keys.
pub struct Verifier {
    validation: Validation,
    keys: Keys,
}

enum Keys {
    One(Box<DecodingKey>),
    Set(HashMap<String, DecodingKey>),
}

#[derive(Deserialize)]
struct TokenClaims {
    sub: String,
    exp: f64,
    #[serde(default)]
    sender_type: SenderType,
    #[serde(default)]
    rooms: BTreeMap<String, String>,
}

impl Verifier {
    /// A verifier as the settings say; reads the files of keys.
    ///
    /// # Errors
    /// [`Kind::Config`] if there is no key or it doesn't suit the algorithm.
    pub fn new(settings: &AuthSettings) -> Result<Self> {
        let algorithm = algorithm(&settings.algorithm)?;
        let mut validation = Validation::new(algorithm);
        validation.leeway = settings.leeway.as_secs();
        validation.validate_nbf = true;
        validation.validate_aud = settings.audience.is_some();
        let mut required = vec!["exp", "sub"];
        if let Some(audience) = &settings.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        if let Some(issuer) = &settings.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        Ok(Self { validation, keys: keys(settings, algorithm)? })
    }

    /// Checks a token.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| header_refusal(token))?;
        if header.crit.is_some() {
            // RFC 7515, 4.1.11: what must be understood and is not, refuses the token.
            return Err(Refusal::Key);
        }
        let key = match &self.keys {
            Keys::One(key) => key,
            Keys::Set(keys) => header.kid.and_then(|kid| keys.get(&kid)).ok_or(Refusal::Key)?,
        };
        let token = jsonwebtoken::decode::<TokenClaims>(token, key, &self.validation).map_err(|e| refusal(e.kind()))?;
        token.claims.checked()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("algorithms", &self.validation.algorithms).finish_non_exhaustive()
    }
}

impl TokenClaims {
    fn checked(self) -> Result<Claims, Refusal> {
        let user = UserId::new(&self.sub).map_err(|_| Refusal::Claims)?;
        let rights = Rights::new(&user, rights::from_map(self.rooms));
        // The library has seen that `exp` is a time; beyond the range the cast saturates.
        let expires_at_ms = (self.exp * 1_000.0) as u64;
        Ok(Claims { user, sender_type: self.sender_type, rights, expires_at_ms })
    }
}

/// The algorithm with this name; only those of design, section 4, are possible.
pub(super) fn algorithm(name: &str) -> Result<Algorithm> {
    match name {
        "HS256" => Ok(Algorithm::HS256),
        "RS256" => Ok(Algorithm::RS256),
        "ES256" => Ok(Algorithm::ES256),
        "EdDSA" => Ok(Algorithm::EdDSA),
        other => Err(config(format!("accept auth.algorithm {other:?}: HS256, RS256, ES256 or EdDSA expected"))),
    }
}

fn keys(settings: &AuthSettings, algorithm: Algorithm) -> Result<Keys> {
    if let Some(file) = &settings.key_set_file {
        let text = read("auth.key_set_file", file)?;
        return set(&text, algorithm).map(Keys::Set);
    }
    if algorithm == Algorithm::HS256 {
        let secret = settings.hs256_secret.expose();
        if secret.is_empty() {
            return Err(config("check tokens: auth.hs256_secret is not set"));
        }
        return Ok(Keys::One(Box::new(DecodingKey::from_secret(secret.as_bytes()))));
    }
    let Some(file) = &settings.public_key_file else {
        return Err(config("check tokens: neither auth.public_key_file nor auth.key_set_file is set"));
    };
    let pem = read("auth.public_key_file", file)?;
    let key = match algorithm {
        Algorithm::RS256 => DecodingKey::from_rsa_pem(pem.as_bytes()),
        Algorithm::ES256 => DecodingKey::from_ec_pem(pem.as_bytes()),
        _ => DecodingKey::from_ed_pem(pem.as_bytes()),
    };
    let key =
        key.map_err(|e| config("read auth.public_key_file: no public key of auth.algorithm in PEM").caused_by(e))?;
    Ok(Keys::One(Box::new(key)))
}

fn set(text: &str, algorithm: Algorithm) -> Result<HashMap<String, DecodingKey>> {
    let set: JwkSet =
        serde_json::from_str(text).map_err(|e| config("read auth.key_set_file: no JSON Web Key Set").caused_by(e))?;
    let keys: HashMap<_, _> = set.keys.iter().filter_map(|jwk| usable(jwk, algorithm)).collect();
    if keys.is_empty() {
        return Err(config(format!("read auth.key_set_file: no key for {algorithm:?} with a kid")));
    }
    Ok(keys)
}

/// The key if it has a `kid` and suits the algorithm. A set may hold others, for other purposes.
fn usable(jwk: &Jwk, algorithm: Algorithm) -> Option<(String, DecodingKey)> {
    let kid = jwk.common.key_id.clone()?;
    if let Some(named) = jwk.common.key_algorithm
        && named.to_string() != format!("{algorithm:?}")
    {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    (key.family() == algorithm.family()).then_some((kid, key))
}

fn read(key: &str, file: &std::path::Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|e| config(format!("read {key} {}", file.display())).caused_by(e))
}

fn config(message: impl Into<String>) -> Error {
    Error::new(Kind::Config, message)
}

/// A header that can't be read names an algorithm that the library doesn't know, such as `none`,
/// or is none.
fn header_refusal(token: &str) -> Refusal {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
    }
    use base64::Engine as _;
    let header = token.split('.').next().unwrap_or_default();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
    match serde_json::from_slice::<Header>(&header) {
        Ok(header) if header.alg.parse::<Algorithm>().is_err() => Refusal::Algorithm,
        _ => Refusal::Malformed,
    }
}

fn refusal(kind: &ErrorKind) -> Refusal {
    match kind {
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::UnsupportedAlgorithm => {
            Refusal::Algorithm
        }
        ErrorKind::InvalidSignature => Refusal::Signature,
        ErrorKind::ExpiredSignature => Refusal::Expired,
        ErrorKind::ImmatureSignature => Refusal::NotYet,
        ErrorKind::InvalidAudience => Refusal::Audience,
        ErrorKind::InvalidIssuer => Refusal::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => Refusal::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => Refusal::Issuer,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => Refusal::Claims,
        _ => Refusal::Malformed,
    }
}

impl Refusal {
    /// A word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "token_too_long",
            Self::Malformed => "token_malformed",
            Self::Algorithm => "token_algorithm",
            Self::Key => "token_key",
            Self::Signature => "token_signature",
            Self::Expired => "token_expired",
            Self::NotYet => "token_not_yet",
            Self::Audience => "token_audience",
            Self::Issuer => "token_issuer",
            Self::Claims => "token_claims",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the token is too long",
            Self::Malformed => "the token is malformed",
            Self::Algorithm => "the token's algorithm is not accepted",
            Self::Key => "the token's key is not known",
            Self::Signature => "the token's signature is wrong",
            Self::Expired => "the token has expired",
            Self::NotYet => "the token is not valid yet",
            Self::Audience => "the token is for another audience",
            Self::Issuer => "the token is from another issuer",
            Self::Claims => "a claim of the token is missing or outside its limits",
        })
    }
}

impl std::error::Error for Refusal {}
