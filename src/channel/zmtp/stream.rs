//! A connected socket, TCP or Unix, read and written through a shared reference.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use bytes::BufMut;
use rustix::net::{Shutdown, shutdown, sockopt};
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
    pub(super) async fn read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Tcp(stream) => {
                    stream.readable().await?;
                    stream.try_read_buf(buffer)
                }
                Self::Unix(stream) => {
                    stream.readable().await?;
                    stream.try_read_buf(buffer)
                }
            };
            match read {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    /// Writes once, as much as there is room for. Safe to cancel.
    pub(super) async fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            let written = match self {
                Self::Tcp(stream) => {
                    stream.writable().await?;
                    stream.try_write_vectored(slices)
                }
                Self::Unix(stream) => {
                    stream.writable().await?;
                    stream.try_write_vectored(slices)
                }
            };
            match written {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
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
