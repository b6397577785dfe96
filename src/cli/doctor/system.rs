//! The machine: space for what the servers write, files that may be open, ports, keys.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use super::report::Finding;
use super::{Patient, nodes};
use crate::auth::Verifier;
use crate::config::{Process, Settings};
use crate::edge::own_files;
use crate::error::{Error, Result};
use crate::sockets;
use crate::stream::Redis;

/// Below this part of a file system, or below so much of it, an operator should know.
const SPACE_WARN_PERCENT: u64 = 10;
const SPACE_WARN_BYTES: u64 = 2 << 30;
/// A rewrite of the append-only file, or a checkpoint of Postgres, may need this at once.
const SPACE_FAIL_BYTES: u64 = 256 << 20;
/// Bytes of an answer to `/livez` that are read.
const ANSWER_BYTES_MAX: usize = 4 << 10;

pub(super) async fn check(patient: &Patient) -> Vec<Finding> {
    let (redis, postgres, ports) = tokio::join!(
        patient.bounded("redis.disk", redis_disk(patient)),
        patient.bounded("postgres.disk", postgres_disk(patient)),
        ports(patient),
    );
    let mut findings: Vec<Finding> = redis.into_iter().chain(postgres).collect();
    findings.push(open_files(patient));
    findings.push(keys(&patient.settings));
    findings.extend(ports);
    findings
}

async fn redis_disk(patient: &Patient) -> Result<Vec<Finding>> {
    let Ok(redis) = &patient.redis else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (name, server) in redis.servers().await {
        let is_here = is_here(if name.is_empty() { patient.settings.redis.url.expose() } else { &name });
        let place = match server {
            Ok(server) if is_here => server.setting("dir").await.ok(),
            _ => None,
        };
        found.push((name, vec![disk("redis.disk", "Redis", place.as_deref())]));
    }
    Ok(nodes::fold(found))
}

async fn postgres_disk(patient: &Patient) -> Result<Vec<Finding>> {
    let Ok(store) = &patient.store else { return Ok(Vec::new()) };
    if !is_here(patient.settings.database.url.expose()) {
        return Ok(vec![disk("postgres.disk", "Postgres", None)]);
    }
    let place = store.server().await?.data_directory;
    Ok(vec![disk("postgres.disk", "Postgres", place.as_deref())])
}

/// Whether a server is on this machine, as far as its URL says so.
fn is_here(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.is_empty() || ["127.0.0.1", "localhost", "[::1]"].iter().any(|here| host.starts_with(here))
}

fn disk(check: &str, whose: &str, place: Option<&str>) -> Finding {
    let Some(place) = place.filter(|place| Path::new(place).is_dir()) else {
        return Finding::skipped(check, format!("the folder of {whose} is not visible from here"));
    };
    match rustix::fs::statvfs(place) {
        Ok(disk) => {
            let size = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
            space(check, whose, place, size(disk.f_bavail), size(disk.f_blocks))
        }
        Err(error) => Finding::skipped(check, format!("the folder of {whose} can't be looked at: {error}")),
    }
}

fn space(check: &str, whose: &str, place: &str, free: u64, all: u64) -> Finding {
    let percent = free.saturating_mul(100).checked_div(all).unwrap_or(100);
    let what = format!("{} MB free at {place} ({percent} %)", free >> 20);
    let why = format!("{whose} refuses writes, or ends, when it can't write any more");
    let fix = "make room or enlarge it";
    if free < SPACE_FAIL_BYTES {
        Finding::fail(check, what, &why, fix)
    } else if free < SPACE_WARN_BYTES || percent < SPACE_WARN_PERCENT {
        Finding::warn(check, what, &why, fix)
    } else {
        Finding::ok(check, what)
    }
}

fn open_files(patient: &Patient) -> Finding {
    const CHECK: &str = "system.open_files";
    let connections = patient.settings.limits.connections;
    let masters = patient.redis.as_ref().ok().and_then(Redis::masters);
    let own = own_files(&patient.settings.redis, masters);
    let wanted = sockets::files_for(connections.saturating_add(sockets::newcomers(connections)), own);
    let Some(limit) = sockets::files_max() else { return Finding::ok(CHECK, "no limit") };
    if limit >= wanted {
        return Finding::ok(CHECK, format!("{limit} may be open"));
    }
    Finding::warn(
        CHECK,
        format!("{limit} may be open here, limits.connections is {connections}"),
        "an edge that is started like this keeps some for itself and lets in as many as the rest allows",
        format!("ulimit -n {wanted} (systemd: LimitNOFILE={wanted}), or lower limits.connections"),
    )
}

fn keys(settings: &Settings) -> Finding {
    const CHECK: &str = "system.keys";
    let auth = &settings.auth;
    if auth.hs256_secret.is_empty() && auth.public_key_file.is_none() && auth.key_set_file.is_none() {
        return Finding::skipped(CHECK, "there is no key for tokens in these settings");
    }
    match Verifier::new(auth) {
        Ok(_) => Finding::ok(CHECK, format!("tokens can be checked ({})", auth.algorithm)),
        Err(error) => Finding::fail(
            CHECK,
            format!("failed to {error}"),
            "edges refuse to start",
            "correct the key or the file (auth.hs256_secret, auth.public_key_file, auth.key_set_file), and let the \
             account of the processes read it",
        ),
    }
}

/// Every address that a process would listen on.
async fn ports(patient: &Patient) -> Vec<Finding> {
    let settings = &patient.settings;
    let mut listens = vec![
        ("edge.listen".to_owned(), settings.edge.listen.clone()),
        ("api.listen".to_owned(), settings.api.listen.clone()),
    ];
    match settings.metrics.listen.as_str() {
        "" => {
            for process in [Process::Edge, Process::Api, Process::Archive, Process::Replay, Process::Callback] {
                listens.push((format!("metrics of {process}"), process.metrics_default().to_owned()));
            }
        }
        listen => listens.push(("metrics.listen".to_owned(), listen.to_owned())),
    }
    let looks = listens.iter().map(|(key, listen)| {
        let check = format!("port {key}");
        async move { patient.bounded(&check, port(&check, listen)).await }
    });
    futures_util::future::join_all(looks).await.into_iter().flatten().collect()
}

async fn port(check: &str, listen: &str) -> Result<Vec<Finding>> {
    let unknown = |e| Error::invalid(format!("find the address {listen}")).caused_by(e);
    let Some(addr) = lookup_host(listen).await.map_err(unknown)?.next() else {
        return Ok(vec![Finding::skipped(check, format!("{listen} is no address"))]);
    };
    if addr.port() == 0 {
        return Ok(vec![Finding::ok(check, format!("{listen}: any free port"))]);
    }
    let Ok(stream) = TcpStream::connect(reachable(addr)).await else { return Ok(vec![usable(check, listen, addr)]) };
    if is_ours(stream, listen).await {
        return Ok(vec![Finding::ok(check, format!("a process of ours has {listen}"))]);
    }
    let port = addr.port();
    Ok(vec![Finding::fail(
        check,
        format!("{listen} is taken, and /livez there doesn't answer as ours does"),
        "the process that should listen there can't start, or clients reach something else",
        format!("find out who has it (`ss -ltnp 'sport = :{port}'`), and end that or choose another address"),
    )])
}

/// An address that stands for all of them is reached at loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], addr.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], addr.port())),
        _ => addr,
    }
}

async fn is_ours(mut stream: TcpStream, listen: &str) -> bool {
    let request = format!("GET /livez HTTP/1.1\r\nhost: {listen}\r\nconnection: close\r\n\r\n");
    let talk = async {
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX as u64).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    // A program that waits for something else than HTTP never answers.
    let answer = tokio::time::timeout(Duration::from_secs(2), talk).await;
    matches!(answer, Ok(Ok(answer)) if answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"\r\n\r\nok\n"))
}

/// Nobody listens there: could we?
fn usable(check: &str, listen: &str, addr: SocketAddr) -> Finding {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let bound = socket.and_then(|socket| socket.set_reuseaddr(true).and_then(|()| socket.bind(addr)));
    match bound {
        Ok(()) => Finding::ok(check, format!("{listen} is free: nothing of ours runs there now")),
        Err(error) => Finding::fail(
            check,
            format!("{listen} can't be used: {error}"),
            "the process that should listen there can't start on this machine",
            "choose an address that this machine has, and a port that its account may use",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    #[test]
    fn a_server_is_here_only_if_its_url_says_so() {
        for url in ["redis://127.0.0.1:6379", "redis://:p@localhost/0", "postgres://u@[::1]:5432/m", "postgres:///m"] {
            assert!(is_here(url), "{url}");
        }
        for url in ["redis://cache:6379", "postgres://u:p@10.0.0.1/localhost"] {
            assert!(!is_here(url), "{url}");
        }
    }

    #[test]
    fn little_space_is_told_and_less_fails() {
        let status = |free: u64, all: u64| space("c", "Redis", "/", free << 20, all << 20).status;
        assert_eq!(status(50_000, 100_000), Status::Ok);
        assert_eq!(status(5_000, 100_000), Status::Warn);
        assert_eq!(status(1_500, 3_000), Status::Warn);
        assert_eq!(status(100, 100_000), Status::Fail);
        assert_eq!(disk("c", "Redis", Some("/no/such/folder")).status, Status::Skipped);
    }
}
