//! Whether an endpoint can be reached: its name, its address, its certificate. Nothing is posted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use super::guard::{check_literal, is_public};
use super::trust;
use crate::config::{CallbackSettings, EndpointSettings};

/// How far a connection to an endpoint came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It answers there.
    Reached {
        /// Where.
        addr: SocketAddr,
        /// Whether its certificate was accepted; `false` for `http`.
        tls: bool,
    },
    /// Its URL can't be used.
    BadUrl,
    /// All its addresses are private, and `allow_private` is off.
    Private,
    /// Its name has no address.
    Unresolved(String),
    /// Nothing takes connections there.
    Unconnected(String),
    /// It takes connections, and TLS fails.
    Untrusted(String),
    /// No answer in time.
    TimedOut,
}

/// Connects to an endpoint as a callback would, within `wait`, and hangs up.
pub async fn probe(section: &CallbackSettings, endpoint: &EndpointSettings, wait: Duration) -> Probe {
    let allow_private = endpoint.allow_private.unwrap_or(section.allow_private);
    tokio::time::timeout(wait, reach(&endpoint.url, allow_private)).await.unwrap_or(Probe::TimedOut)
}

async fn reach(url: &str, allow_private: bool) -> Probe {
    let Ok(url) = Url::parse(url) else { return Probe::BadUrl };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return Probe::BadUrl };
    let host = host.trim_matches(['[', ']']).to_owned();
    if check_literal(&url, allow_private).is_err() {
        return Probe::Private;
    }
    let found: Vec<SocketAddr> = match tokio::net::lookup_host((host.as_str(), port)).await {
        Ok(found) => found.collect(),
        Err(error) => return Probe::Unresolved(error.to_string()),
    };
    let allowed: Vec<SocketAddr> = found.iter().copied().filter(|addr| allow_private || is_public(addr.ip())).collect();
    if allowed.is_empty() {
        return if found.is_empty() { Probe::Unresolved("no address".to_owned()) } else { Probe::Private };
    }
    let stream = match TcpStream::connect(allowed.as_slice()).await {
        Ok(stream) => stream,
        Err(error) => return Probe::Unconnected(error.to_string()),
    };
    let addr = stream.peer_addr().unwrap_or(allowed[0]);
    if url.scheme() != "https" {
        return Probe::Reached { addr, tls: false };
    }
    match handshake(stream, host).await {
        Ok(()) => Probe::Reached { addr, tls: true },
        Err(error) => Probe::Untrusted(error),
    }
}

/// As the HTTP client does it: the certificates of the system.
async fn handshake(stream: TcpStream, host: String) -> Result<(), String> {
    let name = rustls::pki_types::ServerName::try_from(host).map_err(|e| e.to_string())?;
    let config = trust::of_the_system().map_err(|e| e.to_string())?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(|_| ()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn probed(url: &str, allow_private: bool) -> Probe {
        let endpoint = EndpointSettings { url: url.to_owned(), ..EndpointSettings::default() };
        let section = CallbackSettings { allow_private, ..CallbackSettings::default() };
        probe(&section, &endpoint, Duration::from_secs(20)).await
    }

    #[tokio::test]
    async fn an_endpoint_is_reached_as_far_as_it_goes() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        assert_eq!(probed(&format!("http://{addr}/hook"), true).await, Probe::Reached { addr, tls: false });
        assert_eq!(probed(&format!("http://{addr}/hook"), false).await, Probe::Private);
        assert_eq!(probed(&format!("http://localhost:{}/", addr.port()), false).await, Probe::Private);
        assert_eq!(probed("nonsense", true).await, Probe::BadUrl);
        // The first is the one from above, which nobody has taken yet.
        let hangs_up = tokio::spawn(async move {
            for _ in 0..2 {
                drop(listener.accept().await);
            }
        });
        assert!(matches!(probed(&format!("https://{addr}/"), true).await, Probe::Untrusted(_)));
        hangs_up.await.unwrap();
        assert!(matches!(probed(&format!("http://{addr}/"), true).await, Probe::Unconnected(_)));
    }
}
