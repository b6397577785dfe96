//! The listeners of a process.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, lookup_host};

use crate::error::{Error, Kind, Result};

/// Connections that wait to be accepted, at most; the system has a limit of its own besides (Linux: `net.core.somaxconn`,
/// usually 4,096; source: listen(2)). When thousands come back at the same moment, those who find no room here try again
/// after a second, then two, then four.
const WAITING_MAX: u32 = 65_535;

/// Listens on an address from the settings: a host and a port.
///
/// # Errors
/// [`Kind::Config`] if that can't be done; says why.
pub(super) async fn listen(key: &str, address: &str) -> Result<TcpListener> {
    on_first_of(address).await.map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "another process listens there already",
            io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            io::ErrorKind::PermissionDenied => "ports below 1024 need a permission",
            _ => "the address can't be used",
        };
        Error::new(Kind::Config, format!("listen on {address} ({key}): {why}")).caused_by(error)
    })
}

/// Listens on the first of a host's addresses that can be had.
async fn on_first_of(address: &str) -> io::Result<TcpListener> {
    let mut failed = io::Error::from(io::ErrorKind::InvalidInput);
    for address in lookup_host(address).await? {
        match on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A process that is started again finds connections of the one before it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING_MAX)
}
