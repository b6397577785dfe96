//! Certificates of an authority that exists only here, and one that nobody has signed but itself. Their
//! keys guard nothing: they were made for these tests, and are valid for a hundred years.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::support::new_dir;

/// What a server says it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Certificate {
    /// 127.0.0.1, signed by the authority.
    Good,
    /// Another host, signed by the authority.
    OfAnotherHost,
    /// 127.0.0.1, signed by itself.
    SelfSigned,
}

impl Certificate {
    /// A server's side of TLS with it.
    pub(crate) fn server(self) -> Arc<ServerConfig> {
        let (certificate, key) = match self {
            Self::Good => (GOOD, KEY),
            Self::OfAnotherHost => (OF_ANOTHER_HOST, KEY_OF_ANOTHER_HOST),
            Self::SelfSigned => (SELF_SIGNED, KEY),
        };
        let certificate = CertificateDer::from(STANDARD.decode(certificate).unwrap());
        let key = PrivatePkcs8KeyDer::from(STANDARD.decode(key).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key.into()).unwrap())
    }
}

/// A file with the authority, for the variable `SSL_CERT_FILE`.
pub(crate) fn authority_file() -> PathBuf {
    let file = new_dir("authority").join("authority.pem");
    let lines: Vec<&str> = AUTHORITY.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
    std::fs::write(&file, pem).unwrap();
    file
}

const AUTHORITY: &str = concat!(
    "MIIBpzCCAU2gAwIBAgIUFdSxA3SSincH6i2vp+owcWTMKZwwCgYIKoZIzj0EAwIwIDEeMBwGA1UEAwwVYW4gYXV0aG9yaXR5IG9m",
    "IHRlc3RzMCAXDTI2MTEyNzA5MDM1M1oYDzIxMjYxMTAzMDkwMzUzWjAgMR4wHAYDVQQDDBVhbiBhdXRob3JpdHkgb2YgdGVzdHMw",
    "WTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAR1WrLXRJKPPF/JKUOJuuzGKmpAk8U1KYdOHxC1FvLKUKfybAViwE0vFqj7Xa6Npogc",
    "Ar9BG1E48r7RWtfZ4Ekyo2MwYTAdBgNVHQ4EFgQUT3yNKR4SeCsVSSoXOjuWt6mjilswHwYDVR0jBBgwFoAUT3yNKR4SeCsVSSoX",
    "OjuWt6mjilswDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAgQwCgYIKoZIzj0EAwIDSAAwRQIhAP4IMo7f4SKr0Dv66eGE",
    "p1MHSSQyYpmQK/W9s9yVnfjEAiAGuaG5MNKpxsYOh3osHuuxxSuGS4ObGocyyVWL4xbNAA==",
);
const GOOD: &str = concat!(
    "MIIBqDCCAU+gAwIBAgIUW082VYOcrwjLCJ28b4Zn+YooB8owCgYIKoZIzj0EAwIwIDEeMBwGA1UEAwwVYW4gYXV0aG9yaXR5IG9m",
    "IHRlc3RzMCAXDTI2MTEyNzA5MDM1M1oYDzIxMjYxMTAzMDkwMzUzWjAPMQ0wCwYDVQQDDARnb29kMFkwEwYHKoZIzj0CAQYIKoZI",
    "zj0DAQcDQgAEZL7lVoo2X7oL5HB31Y5K/juzWwgcCrkPPKos4/d+8XQRIf+j/YvDVoiiPkc4otMvPj5DnRkF8McQS+PBRI3udaN2",
    "MHQwDwYDVR0RBAgwBocEfwAAATAMBgNVHRMBAf8EAjAAMBMGA1UdJQQMMAoGCCsGAQUFBwMBMB0GA1UdDgQWBBRxrI3No97EQikO",
    "ySyjkuvG944NIjAfBgNVHSMEGDAWgBRPfI0pHhJ4KxVJKhc6O5a3qaOKWzAKBggqhkjOPQQDAgNHADBEAiAXQnWzGPkvcvcoRf2c",
    "RmEpl8kL//LpSvxKrSKB3KY5FQIgd6K17iIYTNRb+3w5DpkxFkMHsd2IVOKNWDDfeyHDg9E=",
);
const KEY: &str = concat!(
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg9fvT0nBgrmuz/+ZO3fR4bLz1pTAptC2aBmIbd+x//UihRANCAARk",
    "vuVWijZfugvkcHfVjkr+O7NbCBwKuQ88qizj937xdBEh/6P9i8NWiKI+Rzii0y8+PkOdGQXwxxBL48FEje51",
);
const SELF_SIGNED: &str = concat!(
    "MIIBnDCCAUKgAwIBAgIUCuYULT8wpbMA8qfqbU8oIspgy/8wCgYIKoZIzj0EAwIwETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEy",
    "NzA5MDM1M1oYDzIxMjYxMTAzMDkwMzUzWjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARkvuVW",
    "ijZfugvkcHfVjkr+O7NbCBwKuQ88qizj937xdBEh/6P9i8NWiKI+Rzii0y8+PkOdGQXwxxBL48FEje51o3YwdDAdBgNVHQ4EFgQU",
    "cayNzaPexEIpDskso5LrxveODSIwHwYDVR0jBBgwFoAUcayNzaPexEIpDskso5LrxveODSIwDAYDVR0TAQH/BAIwADAPBgNVHREE",
    "CDAGhwR/AAABMBMGA1UdJQQMMAoGCCsGAQUFBwMBMAoGCCqGSM49BAMCA0gAMEUCIQDVpNe8GaYulPyVNbS+VKVkXweZLaD2l/1D",
    "Qtle81iFnAIgApP5F4yYL6rrKBt5ZN5qHixfpjmf64q1YsqkvRI0cg4=",
);
const OF_ANOTHER_HOST: &str = concat!(
    "MIIBszCCAVmgAwIBAgIUW082VYOcrwjLCJ28b4Zn+YooB8swCgYIKoZIzj0EAwIwIDEeMBwGA1UEAwwVYW4gYXV0aG9yaXR5IG9m",
    "IHRlc3RzMCAXDTI2MTEyNzA5MDM1M1oYDzIxMjYxMTAzMDkwMzUzWjAQMQ4wDAYDVQQDDAVvdGhlcjBZMBMGByqGSM49AgEGCCqG",
    "SM49AwEHA0IABP9vcNHSTFGHUCyOuwCrcRPdBJnDDRUOZ/CeqUjvO5yEzXvEGzWIDGwVVf5hTF3g5yaIGWa4EK5ZMhDwYl8vxcWj",
    "fzB9MBgGA1UdEQQRMA+CDW90aGVyLmV4YW1wbGUwDAYDVR0TAQH/BAIwADATBgNVHSUEDDAKBggrBgEFBQcDATAdBgNVHQ4EFgQU",
    "Upo072C3oagaJ0mxjHwyej8awwUwHwYDVR0jBBgwFoAUT3yNKR4SeCsVSSoXOjuWt6mjilswCgYIKoZIzj0EAwIDSAAwRQIgHK0p",
    "vOqY8VYszaM1Ndn1blVfS81ZRdNGkAURAIfyaKYCIQC6wq7y4IGAf1BGtY7xUiGRRV3ii+OCCi4RY7wSUyDgfg==",
);
const KEY_OF_ANOTHER_HOST: &str = concat!(
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgHTs8wueY2qQDgoEQ7kjYIAN1JlD604zkz0WXj5KijdehRANCAAT/",
    "b3DR0kxRh1AsjrsAq3ET3QSZww0VDmfwnqlI7zuchM17xBs1iAxsFVX+YUxd4OcmiBlmuBCuWTIQ8GJfL8XF",
);
