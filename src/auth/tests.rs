//! What tokens may and may not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::config::{AuthSettings, Secret, Span};
use crate::model::{Room, SenderType, UserId};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

// Tokens `{"sub":"alice","exp":4102444800}` (the year 2100), signed once with keys that were thrown away.
const RS256: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.OsEay2Lgki9dBynnRP0tLv-4A8x9cLVgDYOyRBNsHVZOL71wyit4rTvWbMJSvMdkTAV4wPxtplq4WoyhhEvCumw51TDq6_sI8cTCeNPiXLnDf-TxvLNsESREMM6ZjFIDIJeK8x8lVSns2fxVjVHcrH8-Um7O6jSRB6Uh1juy6X4SyOu28geGsxWpGjSDOZE22zM8f36QQ0UMYfna8ml1j3vbNgEoi1wcPltjBExs18flC_xdGW3XRIEnk6wxUg64VWFGhpeJngzBwmlwnBtotJYG4WiuNi3GsF4K5NbZoxQ1VS2HyLEV1auqy0JrbRmpOvkX-axMnC4JU83ocjuB-w";
const ES256: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.fukUqskXp0SldPwEzexvyGJi7_IBHNgdHNZWca9UfyrbSu46_847FjS4iFv1wZnZpJq_8rj7B8DEStJfbQdF_Q";
const EDDSA: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.EjtXG9HfTz7_WQAwB5wGwL2tuFqkN04iYYReOGKPy1biWlSYLasTUSfGoOByPd6a8PL4NDbWbYVa2VG61BzWDA";
const EDDSA_KID_TWO: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6InR3byJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0._33E1nrLAkbGlNvcqnrGDXoiYb0n7rUayUAj2DREJGTN6HRepf7ZggjuHlOYQL17fOfkUlUh9qXmN1XaLannDg";

const RSA_KEY: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAlwTgJsju+GX1+p+oYBImKOkM8nKPFzM8Bgf3ZBW4gIqDRN1hdmeASEa8Btjbp2VyAl+PqFqJMPMiD//L+iiQnPcuP1JoS8J9HtyC8TDbokw1+vAoNCzshZIXwoHFqQ31yCAe3BLJ+a395ssRWUwwq26kbxH33KdKvoYAX933PeBdpLS+A2f+5f0XpSxHYlO/H9zgXf7L0NnzzOFqHNHpXFPWmfbAL/X1ZPZ597YjM+XeGd75YtgGTWktA+hpa7t7e70PkrPxc7fsq1+MhBu03XIURPXGjyg/fkY7+vOOUOCgf8dA0LMsGLZYovy2++75+KjtlpPtO/tvQG+hmjX5LwIDAQAB";
const EC_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0UhJNaydBHVxyeu/xvpv3dk3hZ9mSefRk2lehDDnCp5VKo09pb36CnTS0SYah2oEB+P+9jUUMf18gGe9EGdRiA==";
const ED_KEY: &str = "MCowBQYDK2VwAyEAfycm0ro89ZNu5TtWX7BdVC6qQCDIwFrk17DltQEqZn4=";
const ED_KEY_X: &str = "fycm0ro89ZNu5TtWX7BdVC6qQCDIwFrk17DltQEqZn4";

fn settings() -> AuthSettings {
    AuthSettings { hs256_secret: Secret::new(SECRET), ..AuthSettings::default() }
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn sign(algorithm: Algorithm, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn verify(settings: &AuthSettings, claims: &Value) -> Result<Claims, Refusal> {
    Verifier::new(settings).unwrap().verify(&sign(Algorithm::HS256, claims))
}

/// The refusal of a token with these claims beside a good `sub` and `exp`; a null takes one away.
fn refusal(settings: &AuthSettings, claims: Value) -> Option<Refusal> {
    let mut all = json!({"sub": "alice", "exp": now() + 60});
    for (name, value) in claims.as_object().unwrap() {
        match value {
            Value::Null => all.as_object_mut().unwrap().remove(name),
            value => all.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    verify(settings, &all).err()
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

#[test]
fn a_good_token_says_who_and_what() {
    let exp = now() + 60;
    let claims = json!({"sub": "alice", "exp": exp, "sender_type": "service", "rooms": {"team:*": "rw", "lobby": "r"}});
    let claims = verify(&settings(), &claims).unwrap();
    assert_eq!(claims.user.as_str(), "alice");
    assert_eq!(claims.sender_type, SenderType::Service);
    assert_eq!(claims.expires_at_ms, u64::try_from(exp * 1_000).unwrap());
    assert!(claims.rights.allows(&Room::new("team:1").unwrap(), Access::Write));
    assert!(!claims.rights.allows(&Room::new("lobby").unwrap(), Access::Write));
}

#[test]
fn times_are_checked_with_the_leeway_and_no_more() {
    let auth = settings();
    assert_eq!(refusal(&auth, json!({"exp": now() - 29})), None);
    assert_eq!(refusal(&auth, json!({"exp": now() - 31})), Some(Refusal::Expired));
    assert_eq!(refusal(&auth, json!({"nbf": now() + 28})), None);
    assert_eq!(refusal(&auth, json!({"nbf": now() + 60})), Some(Refusal::NotYet));
    assert_eq!(refusal(&auth, json!({"nbf": "tomorrow"})), Some(Refusal::Claims));
}

#[test]
fn claims_that_are_missing_or_outside_their_limits_are_refused() {
    let auth = settings();
    for claims in [
        json!({"sub": null}),
        json!({"exp": null}),
        json!({"exp": "soon"}),
        json!({"exp": -1}),
        json!({"sub": ""}),
        json!({"sub": 7}),
        json!({"sub": "x".repeat(65)}),
        json!({"sub": "nul\0"}),
        json!({"sender_type": "admin"}),
        json!({"rooms": ["team:*"]}),
        json!({"rooms": {"team:*": 7}}),
    ] {
        assert_eq!(refusal(&auth, claims.clone()), Some(Refusal::Claims), "{claims}");
    }
    assert_eq!(refusal(&auth, json!({"sub": "x".repeat(64)})), None);
}

#[test]
fn audience_and_issuer_are_checked_when_they_are_configured() {
    let auth = AuthSettings { audience: Some("us".into()), issuer: Some("login".into()), ..settings() };
    assert_eq!(refusal(&auth, json!({"aud": "us", "iss": "login"})), None);
    assert_eq!(refusal(&auth, json!({"aud": ["them", "us"], "iss": "login"})), None);
    assert_eq!(refusal(&auth, json!({"aud": "them", "iss": "login"})), Some(Refusal::Audience));
    assert_eq!(refusal(&auth, json!({"iss": "login"})), Some(Refusal::Audience));
    assert_eq!(refusal(&auth, json!({"aud": "us", "iss": "other"})), Some(Refusal::Issuer));
    assert_eq!(refusal(&auth, json!({"aud": "us"})), Some(Refusal::Issuer));
    assert_eq!(refusal(&settings(), json!({"aud": "anybody"})), None, "not configured, not checked");
}

#[test]
fn only_the_configured_algorithm_is_accepted() {
    let verifier = Verifier::new(&settings()).unwrap();
    let claims = json!({"sub": "alice", "exp": now() + 60});
    assert_eq!(verifier.verify(&sign(Algorithm::HS384, &claims)), Err(Refusal::Algorithm));
    let body = base64(&claims.to_string());
    for algorithm in ["none", "None", "ES256"] {
        let header = base64(&json!({"alg": algorithm, "typ": "JWT"}).to_string());
        assert_eq!(verifier.verify(&format!("{header}.{body}.")), Err(Refusal::Algorithm), "{algorithm}");
    }
    // The old trick: a token signed by HMAC with the public key as its secret.
    let (_folder, auth) = with_pem("RS256", RSA_KEY);
    let pem = std::fs::read(auth.public_key_file.as_ref().unwrap()).unwrap();
    let forged =
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(&pem)).unwrap();
    assert_eq!(Verifier::new(&auth).unwrap().verify(&forged), Err(Refusal::Algorithm));
}

#[test]
fn what_is_no_token_of_ours_is_refused() {
    let verifier = Verifier::new(&settings()).unwrap();
    let good = sign(Algorithm::HS256, &json!({"sub": "alice", "exp": now() + 60}));
    assert!(verifier.verify(&good).is_ok());
    let other = AuthSettings { hs256_secret: Secret::new("another secret of thirty-two bytes"), ..settings() };
    assert_eq!(Verifier::new(&other).unwrap().verify(&good), Err(Refusal::Signature));
    let empty = &good[..=good.rfind('.').unwrap()];
    assert_eq!(verifier.verify(empty), Err(Refusal::Signature));
    for nonsense in ["", ".", "..", "a.b.c", "no token"] {
        assert_eq!(verifier.verify(nonsense), Err(Refusal::Malformed), "{nonsense:?}");
    }
    assert_eq!(verifier.verify(&format!("{good}.more")), Err(Refusal::Malformed));
    let rooms: serde_json::Map<_, _> = (0..1_000).map(|n| (format!("room-{n}"), json!("rw"))).collect();
    let long = sign(Algorithm::HS256, &json!({"sub": "alice", "exp": now() + 60, "rooms": rooms}));
    assert!(long.len() > 20_000);
    assert_eq!(verifier.verify(&long), Err(Refusal::TooLong));
    let mut critical = Header::new(Algorithm::HS256);
    critical.crit = Some(vec!["exp".into()]);
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let critical = jsonwebtoken::encode(&critical, &json!({"sub": "alice", "exp": now() + 60}), &key).unwrap();
    assert_eq!(verifier.verify(&critical), Err(Refusal::Key));
}

fn with_pem(algorithm: &str, key: &str) -> (tempfile::TempDir, AuthSettings) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let lines = key.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>().join("\n");
    std::fs::write(&file, format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n")).unwrap();
    let auth = AuthSettings { algorithm: algorithm.into(), public_key_file: Some(file), ..AuthSettings::default() };
    (folder, auth)
}

#[test]
fn public_keys_check_what_their_private_keys_signed() {
    for (algorithm, key, token) in [("RS256", RSA_KEY, RS256), ("ES256", EC_KEY, ES256), ("EdDSA", ED_KEY, EDDSA)] {
        let (_folder, auth) = with_pem(algorithm, key);
        let verifier = Verifier::new(&auth).unwrap();
        assert_eq!(verifier.verify(token).unwrap().user.as_str(), "alice", "{algorithm}");
        let other = verifier.verify(&sign(Algorithm::HS256, &json!({"sub": "alice", "exp": now() + 60})));
        assert_eq!(other, Err(Refusal::Algorithm), "{algorithm}");
    }
    let (_folder, auth) = with_pem("RS256", EC_KEY);
    assert!(Verifier::new(&auth).unwrap_err().to_string().contains("auth.public_key_file"));
}

#[test]
fn a_key_set_finds_the_key_by_its_kid() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let set = json!({"keys": [
        {"kty": "oct", "kid": "one", "k": base64(SECRET)},
        {"kty": "OKP", "crv": "Ed25519", "kid": "two", "use": "sig", "alg": "EdDSA", "x": ED_KEY_X},
    ]});
    std::fs::write(&file, set.to_string()).unwrap();
    let auth = AuthSettings { algorithm: "EdDSA".into(), key_set_file: Some(file.clone()), ..AuthSettings::default() };
    let verifier = Verifier::new(&auth).unwrap();
    assert_eq!(verifier.verify(EDDSA_KID_TWO).unwrap().user.as_str(), "alice");
    assert_eq!(verifier.verify(EDDSA), Err(Refusal::Key), "no kid");
    let auth = AuthSettings { algorithm: "RS256".into(), ..auth };
    assert!(Verifier::new(&auth).unwrap_err().to_string().contains("no key for RS256"));
}

#[test]
fn rooms_of_the_system_need_a_pattern_that_says_so() {
    let user = UserId::new("alice").unwrap();
    let rights = |grants: &[&str]| {
        let grants = grants.iter().map(|grant| grant.parse().unwrap()).collect();
        Rights::new(&user, grants)
    };
    let room = |name: &str| Room::new(name).unwrap();
    let wide = rights(&["*=rw"]);
    assert!(wide.allows(&room("anything"), Access::Write));
    for system in ["@all", "@user:alice", "@user:bob", "@other"] {
        assert!(!wide.allows(&room(system), Access::Write), "{system}");
        assert_eq!(wide.allows(&room(system), Access::Read), ["@all", "@user:alice"].contains(&system), "{system}");
    }
    let system = rights(&["@user:*=w"]);
    assert!(system.allows(&room("@user:bob"), Access::Write));
    assert!(!system.allows(&room("@user:bob"), Access::Read));
    assert!(!system.allows(&room("@all"), Access::Write));
}

#[test]
fn the_inbox_of_a_strange_name_is_its_own_to_read() {
    let user = UserId::new("älice at work").unwrap();
    let rights = Rights::new(&user, Vec::new());
    assert!(rights.allows(&Room::inbox(&user), Access::Read));
}

#[test]
fn grants_are_read_as_people_write_them() {
    let grant: Grant = "team:*=rw".parse().unwrap();
    assert_eq!((grant.pattern.as_str(), grant.letters()), ("team:*", "rw"));
    for wrong in ["team", "team=", "team=x", "=rw", "with space=r"] {
        assert!(wrong.parse::<Grant>().is_err(), "{wrong}");
    }
    assert!("*=r".parse::<Grant>().is_ok());
}

#[test]
fn a_minted_token_is_accepted_by_the_same_settings() {
    let auth = AuthSettings { audience: Some("us".into()), issuer: Some("login".into()), ..settings() };
    let token = Mint {
        user: UserId::new("alice").unwrap(),
        sender_type: SenderType::User,
        grants: vec!["*=rw".parse().unwrap()],
        ttl: Duration::from_secs(60),
    };
    let claims = Verifier::new(&auth).unwrap().verify(&mint(&auth, &token).unwrap()).unwrap();
    assert!(claims.rights.allows(&Room::new("lobby").unwrap(), Access::Write));
    assert!(mint(&AuthSettings::default(), &token).unwrap_err().to_string().contains("auth.hs256_secret is not set"));
    let none = Verifier::new(&AuthSettings { leeway: Span::secs(0), ..AuthSettings::default() });
    assert!(none.unwrap_err().to_string().contains("auth.hs256_secret is not set"));
}
