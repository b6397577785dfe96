//! Makes tokens, for the command line and for tests.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;

use super::Grant;
use super::verify::algorithm;
use crate::config::AuthSettings;
use crate::error::{Error, Kind, Result};
use crate::model::{SenderType, UserId};

/// What a new token says.
#[derive(Debug, Clone)]
pub struct Mint {
    /// Who it is.
    pub user: UserId,
    /// As what it sends.
    pub sender_type: SenderType,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// How long it is valid.
    pub ttl: Duration,
}

#[derive(Serialize)]
struct MintClaims<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "is_user")]
    sender_type: SenderType,
    rooms: BTreeMap<&'a str, &'static str>,
}

/// Makes a token that an edge with these settings accepts. Only with HS256: of the other algorithms
/// we hold no private key.
///
/// # Errors
/// [`Kind::Config`] with another algorithm or without a secret.
pub fn mint(settings: &AuthSettings, token: &Mint) -> Result<String> {
    let config = |why: &str| Error::new(Kind::Config, format!("make a token: {why}"));
    let algorithm = algorithm(&settings.algorithm)?;
    if algorithm != jsonwebtoken::Algorithm::HS256 || settings.key_set_file.is_some() {
        return Err(config(
            "auth.algorithm is not HS256 with auth.hs256_secret, so whoever has the private key makes them",
        ));
    }
    if settings.hs256_secret.is_empty() {
        return Err(config("auth.hs256_secret is not set"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = MintClaims {
        sub: token.user.as_str(),
        iat: now,
        exp: now.saturating_add(token.ttl.as_secs()),
        aud: settings.audience.as_deref(),
        iss: settings.issuer.as_deref(),
        sender_type: token.sender_type,
        rooms: token.grants.iter().map(|grant| (grant.pattern.as_str(), grant.letters())).collect(),
    };
    let key = EncodingKey::from_secret(settings.hs256_secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), &claims, &key)
        .map_err(|e| Error::internal("make a token").caused_by(e))
}

fn is_user(sender_type: &SenderType) -> bool {
    *sender_type == SenderType::User
}
