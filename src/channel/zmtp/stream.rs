//! A connected socket, TCP or Unix, read and written through a shared reference.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use bytes::BufMut;
use rustix::net::{Shutdown, shutdown, sockopt};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

use super::address::Endpoint;

/// Bytes discarded in one go.
const DISCARD_BYTES: usize = 4 * 1024;

/// A connected socket.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// A new connection.
    pub(super) async fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        Ok(match endpoint {
            Endpoint::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
            Endpoint::Ipc(path) => Self::Unix(UnixStream::connect(path).await?),
        })
    }

    /// Reads once, into the room that there is; 0 at the end. Safe to cancel.
    ///
    /// Each call uses up some of its task's turn (`async_io` does, while `readable` does not), so that a
    /// peer that never stops sending leaves others theirs.
    pub(super) async fn read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        let readable = Interest::READABLE;
        match self {
            Self::Tcp(stream) => {
                let read = || stream.try_read_buf(buffer);
                stream.async_io(readable, read).await
            }
            Self::Unix(stream) => {
                let read = || stream.try_read_buf(buffer);
                stream.async_io(readable, read).await
            }
        }
    }

    /// Writes once, as much as there is room for. Safe to cancel, and fair as reading is.
    pub(super) async fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let writable = Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => {
                let write = || stream.try_write_vectored(slices);
                stream.async_io(writable, write).await
            }
            Self::Unix(stream) => {
                let write = || stream.try_write_vectored(slices);
                stream.async_io(writable, write).await
            }
        }
    }

    /// Says that nothing more follows, behind everything that was written.
    pub(super) fn finish(&self) {
        // A peer that is gone already needs not be told.
        let _ = shutdown(self, Shutdown::Write);
    }

    /// Reads until the end or an error, and keeps nothing.
    pub(super) async fn discard(&self) {
        let mut scratch = Vec::with_capacity(DISCARD_BYTES);
        while matches!(self.read(&mut scratch).await, Ok(1..)) {
            scratch.clear();
        }
    }

    /// Whether the end of this socket is a reset, which leaves nothing behind in the kernel.
    pub(super) fn reset_at_end(&self, reset: bool) -> io::Result<()> {
        Ok(sockopt::set_socket_linger(
            self,
            reset.then_some(Duration::ZERO),
        )?)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}
