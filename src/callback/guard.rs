//! Which addresses an endpoint may be on, checked when connecting.
//!
//! A name is resolved, every address that isn't public is left out, and the connection goes to
//! what remains: there is no second look-up between the check and the connection that could give
//! another answer. A connection that is kept alive was checked when it was made.
//!
//! **Invariant:** without `allow_private` no connection is made to an address for which
//! [`is_public`] says no.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;
use url::Url;

/// The address of an endpoint is not one that may be called.
#[derive(Debug)]
pub(super) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its address is private (callback.allow_private is off)")
    }
}

impl std::error::Error for Refused {}

/// A name could not be resolved.
#[derive(Debug)]
pub(super) struct Unresolved {
    /// Whether the resolver gave no answer, which is not the endpoint's doing.
    pub(super) ours: bool,
    cause: std::io::Error,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.cause, f)
    }
}

impl std::error::Error for Unresolved {}

impl From<std::io::Error> for Unresolved {
    fn from(cause: std::io::Error) -> Self {
        // The standard library gives EAI_AGAIN as words only: those of glibc, and those of musl.
        let text = cause.to_string();
        let again = text.contains("Temporary failure in name resolution") || text.contains("Try again");
        Self { ours: again || cause.raw_os_error().is_some(), cause }
    }
}

/// Resolves names as the system does and leaves out what may not be called.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    /// Whether every address may be called.
    pub(super) allow_private: bool,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let allow_private = self.allow_private;
        Box::pin(async move {
            // The client puts the URL's port in the place of 0.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(Unresolved::from)?;
            let allowed: Vec<SocketAddr> = found.filter(|addr| allow_private || is_public(addr.ip())).collect();
            if allowed.is_empty() {
                return Err(Refused.into());
            }
            Ok(allowed.into_iter())
        })
    }
}

/// Refuses a URL that names a private address itself: no resolver is asked about those.
///
/// # Errors
/// [`Refused`].
pub(super) fn check_literal(url: &Url, allow_private: bool) -> Result<(), Refused> {
    // `host_str` puts brackets around the version that has colons.
    let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
    match literal {
        Some(ip) if !allow_private && !is_public(ip) => Err(Refused),
        _ => Ok(()),
    }
}

/// Whether an address belongs to the public internet.
///
/// Sources: IANA's registries of special-purpose addresses (RFC 6890 and what followed).
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// Address, bits that count.
const SPECIAL_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),        // this network; 0.0.0.0 reaches the machine itself
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // carriers' NAT, and a cloud's metadata
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback
    (Ipv4Addr::new(168, 63, 129, 16), 32), // a cloud's metadata on a public address
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local, and clouds' metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // protocol assignments, and a cloud's metadata
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),      // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),      // reserved, and broadcast
];

fn is_public_v4(ip: Ipv4Addr) -> bool {
    !SPECIAL_V4.iter().any(|(net, bits)| (ip.to_bits() ^ net.to_bits()) >> (32 - bits) == 0)
}

/// Special ranges inside `2000::/3`, the only part of IPv6 that is global unicast.
const SPECIAL_V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, Teredo
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4: any IPv4 address may hide in it
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// Where NAT64 puts IPv4 addresses.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let within = |(net, bits): &(Ipv6Addr, u32)| (ip.to_bits() ^ net.to_bits()) >> (128 - bits) == 0;
    if let Some(mapped) = ip.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    if within(&NAT64) {
        let embedded = u32::try_from(ip.to_bits() & u128::from(u32::MAX)).unwrap_or_default();
        return is_public_v4(Ipv4Addr::from_bits(embedded));
    }
    within(&GLOBAL_UNICAST) && !SPECIAL_V6.iter().any(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip} counts as public");
        }
    }

    #[test]
    fn the_rest_is_public() {
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2606:4700::1111",
            "2a00::1",
            "2001:200::1",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip} counts as private");
        }
    }

    #[test]
    fn literals_are_seen_through_their_disguises() {
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://017700000001/",
            "http://127.1:80/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]:8080/",
            "http://0/",
        ] {
            let url = Url::parse(url).unwrap();
            assert!(check_literal(&url, false).is_err(), "{url} was let through");
            assert!(check_literal(&url, true).is_ok(), "{url} was refused");
        }
        assert!(check_literal(&Url::parse("https://1.1.1.1/").unwrap(), false).is_ok());
        assert!(check_literal(&Url::parse("https://example.org/").unwrap(), false).is_ok());
    }

    #[test]
    fn a_resolver_without_an_answer_is_our_fault() {
        let failed = |text: &str| Unresolved::from(std::io::Error::other(text.to_owned())).ours;
        assert!(failed("failed to lookup address information: Temporary failure in name resolution"));
        assert!(!failed("failed to lookup address information: Name or service not known"));
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_loopback_is_refused() {
        let name = || "localhost".parse::<Name>().unwrap();
        let refused = Resolver { allow_private: false }.call(name()).await.err().unwrap();
        assert!(refused.is::<Refused>());
        let mut found = Resolver { allow_private: true }.call(name()).await.unwrap();
        assert!(found.next().unwrap().ip().is_loopback());
    }
}
