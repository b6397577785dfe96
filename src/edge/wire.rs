//! The socket below the WebSocket: ready-made frames go out by gathered writes.
//!
//! # Design
//! Server frames aren't masked, so a frame is encoded once, header and payload, and shared by all
//! its receivers; here such frames wait in a queue and leave with one system call for many. The
//! WebSocket library keeps reading, control frames and the closing handshake; what it writes goes
//! through the same queue, so the two never mix within a frame.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

/// Frames of one system call at most; the kernel takes 1,024.
const SLICES_MAX: usize = 64;

/// A TCP stream with a queue of ready-made frames in front of it.
#[derive(Debug)]
pub(super) struct Wire {
    tcp: TcpStream,
    queue: VecDeque<Bytes>,
    queued: usize,
    written: u64,
}

impl Wire {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp, queue: VecDeque::new(), queued: 0, written: 0 }
    }

    /// Puts a frame, header included, behind those that wait.
    pub(super) fn enqueue(&mut self, frame: Bytes) {
        if !frame.is_empty() {
            self.queued += frame.len();
            self.queue.push_back(frame);
        }
    }

    /// Bytes that wait.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Bytes that have gone out so far, to see that a reader moves.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Ready when the client has sent more, or its side has ended.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error is for the read that comes then.
        self.tcp.poll_read_ready(cx).map(|_| ())
    }

    /// Ends our side, then throws away what the client still sends, until it has ended its side as well.
    /// A socket that is closed with bytes unread is reset, and a client that is still writing would then
    /// hear of the reset instead of our close.
    pub(super) async fn hear_out(&mut self) -> io::Result<()> {
        self.shutdown().await?;
        // Not on the stack: it would be a part of every connection's task, from its beginning.
        let mut thrown_away = vec![0; 4 << 10];
        while self.tcp.read(&mut thrown_away).await? > 0 {}
        Ok(())
    }

    /// Writes what waits. Nothing is lost if it is dropped: what is not written stays.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.queue.len().min(SLICES_MAX);
            for (slice, frame) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(frame);
            }
            let sent = ready!(Pin::new(&mut self.tcp).poll_write_vectored(cx, &slices[..count]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(sent);
        }
        // A queue that was long once shall not hold its memory while the connection idles.
        if self.queue.capacity() > SLICES_MAX {
            self.queue = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut sent: usize) {
        self.queued -= sent;
        self.written += sent as u64;
        while sent > 0 {
            let Some(frame) = self.queue.front_mut() else { return };
            if frame.len() > sent {
                frame.advance(sent);
                return;
            }
            sent -= frame.len();
            self.queue.pop_front();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // Into the same queue: a pong that went out in part would be split by the next frame.
        self.enqueue(Bytes::copy_from_slice(buf));
        match self.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // What is queued is as good as written: flushing waits for it.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
