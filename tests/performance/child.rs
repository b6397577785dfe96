//! This program once more, as a server: the yardstick has a process of its own, as what is measured has.

use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use super::support::{free_port, wait_until};

/// A server; killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: String,
}

impl Server {
    /// Starts this program with `role`, which takes the address; waits until it listens.
    pub(crate) async fn start(role: &str) -> Self {
        let addr = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(std::env::current_exe().unwrap());
        let child = command.args([role, &addr]).stdin(Stdio::null()).spawn().unwrap();
        let server = Self { child, addr };
        wait_until("the server listens", async || TcpStream::connect(&server.addr).await.is_ok()).await;
        server
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
