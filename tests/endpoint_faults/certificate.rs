//! A certificate that nobody has signed but itself, and its key, which guards nothing: made for these tests.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

const CERTIFICATE: &str = concat!(
    "MIIBkDCCATagAwIBAgIUag2tF7NTESdn75jHsGBPSBPodTMwCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJMTI3LjAuMC4xMCAXDTI2",
    "MTEyNzA3NDE1NloYDzIxMjYxMTAzMDc0MTU2WjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC",
    "AAQcFWZfnZzp3a/QJOHy0S70i9NSvnugGUinrj79doC02FEbbVcAgLuwW8bW4LFkgCJ+6im+cv1XBg8IKFXkO96Io2QwYjAdBgNV",
    "HQ4EFgQUHR0Zi63q8W229sITgf5IzPZQO4MwHwYDVR0jBBgwFoAUHR0Zi63q8W229sITgf5IzPZQO4MwDwYDVR0TAQH/BAUwAwEB",
    "/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0gAMEUCIQDRS7SYMSRC5IZpT/GFEW3Qp3sBP7D5GyySFPbj9zTSegIgfa5X",
    "d4+X6v5GYZxU7f15kUuk9zW6lD+xMkc00b9bPwY=",
);
const KEY: &str = concat!(
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgaFjARbXsG2birHrZIY6sudOH8UiC5QkBnXgnAuLV79ahRANCAAQc",
    "FWZfnZzp3a/QJOHy0S70i9NSvnugGUinrj79doC02FEbbVcAgLuwW8bW4LFkgCJ+6im+cv1XBg8IKFXkO96I",
);

/// A server's side of TLS with it.
pub(crate) fn self_signed() -> Arc<rustls::ServerConfig> {
    let certificate = CertificateDer::from(STANDARD.decode(CERTIFICATE).unwrap());
    let key = PrivatePkcs8KeyDer::from(STANDARD.decode(KEY).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key.into()).unwrap())
}
