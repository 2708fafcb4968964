//! Addresses of channels, and listening on them.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::stream::Stream;
use crate::channel::ChannelError;

/// Ports from which port 0 chooses: without privileges, and outside of those that the kernel gives to
/// outgoing connections.
pub const PORTS: RangeInclusive<u16> = 1024..=49151;

/// Ports tried for port 0 before giving up.
const PORT_TRIES_MAX: u32 = 64;

/// How long a peer may leave bytes unacknowledged, or be silent altogether, before the kernel ends its
/// connection. Well above the heartbeat, which decides when a registered sink is dead: this is for
/// operators whose host is gone, and for what the kernel still has to send when we have closed.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

/// Longest path of a Unix socket, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Connections that may wait to be accepted; the kernel's own limit is `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Who may reach a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// This host only.
    Loopback,
    /// Whoever the network lets through. Anybody who can connect can read the tree.
    Anywhere,
}

/// Where a channel listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A name or number, one of version 6 without its brackets, and a port.
    Tcp { host: String, port: u16 },
    /// An absolute path.
    Ipc(PathBuf),
}

/// Reads `tcp://HOST:PORT` or `ipc:///PATH`.
pub(super) fn parse(address: &str) -> Result<Endpoint, ChannelError> {
    let wrong = |problem: String| ChannelError::Address {
        address: address.to_owned(),
        problem,
    };
    if let Some(path) = address.strip_prefix("ipc://") {
        if !path.starts_with('/') {
            return Err(wrong("the path of the socket is not absolute".to_owned()));
        }
        if path.len() > SOCKET_PATH_BYTES_MAX {
            return Err(wrong(format!(
                "the path is longer than {SOCKET_PATH_BYTES_MAX} bytes"
            )));
        }
        return Ok(Endpoint::Ipc(path.into()));
    }
    let rest = address
        .strip_prefix("tcp://")
        .ok_or_else(|| wrong("it begins with neither tcp:// nor ipc://".to_owned()))?;
    let (host, port) = rest
        .rsplit_once(':')
        .ok_or_else(|| wrong("it has no port".to_owned()))?;
    let port = port
        .parse()
        .map_err(|_| wrong(format!("{port:?} is no port")))?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        return Err(wrong("it has no host".to_owned()));
    }
    Ok(Endpoint::Tcp {
        host: host.to_owned(),
        port,
    })
}

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Bound {
    /// The next connection. Safe to cancel.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // What fails here says something about this connection alone.
                stream
                    .set_nodelay(true)
                    .map_err(|_| ErrorKind::ConnectionAborted)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

/// The file of a Unix socket, removed when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever has removed it already has done no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Listens on an address; returns the socket, its file if it has one, and the address as bound.
pub(super) async fn listen(
    address: &str,
    exposure: Exposure,
) -> Result<(Bound, Option<SocketFile>, String), ChannelError> {
    match parse(address)? {
        Endpoint::Tcp { host, port } => {
            let resolved = resolve(&host, port)
                .await
                .map_err(|error| refused(address, error))?;
            if exposure == Exposure::Loopback && !resolved.ip().is_loopback() {
                return Err(ChannelError::Exposed {
                    address: address.to_owned(),
                });
            }
            let (listener, bound) = listen_tcp(address, resolved)?;
            let listener =
                TcpListener::from_std(listener).map_err(|error| refused(address, error))?;
            Ok((Bound::Tcp(listener), None, format!("tcp://{bound}")))
        }
        Endpoint::Ipc(path) => {
            let listener = listen_ipc(address, &path).await?;
            let file = SocketFile(path);
            let listener =
                UnixListener::from_std(listener).map_err(|error| refused(address, error))?;
            Ok((Bound::Unix(listener), Some(file), address.to_owned()))
        }
    }
}

/// The first address of a host; `*` is every address.
async fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let host = if host == "*" { "0.0.0.0" } else { host };
    tokio::net::lookup_host((host, port))
        .await?
        .next()
        .ok_or_else(|| io::Error::from(ErrorKind::AddrNotAvailable))
}

fn listen_tcp(
    address: &str,
    mut wanted: SocketAddr,
) -> Result<(std::net::TcpListener, SocketAddr), ChannelError> {
    if wanted.port() != 0 {
        return bind_tcp(wanted).map_err(|error| refused(address, error));
    }
    for _ in 0..PORT_TRIES_MAX {
        wanted.set_port(random_port().map_err(|error| refused(address, error))?);
        match bind_tcp(wanted) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            other => return other.map_err(|error| refused(address, error)),
        }
    }
    Err(ChannelError::NoFreePort {
        address: address.to_owned(),
        tries: PORT_TRIES_MAX,
    })
}

fn bind_tcp(wanted: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(wanted)?;
    listener.set_nonblocking(true)?;
    net::listen(&listener, BACKLOG)?;
    // Accepted connections inherit these.
    let unacknowledged_ms = u32::try_from(UNACKNOWLEDGED_MAX.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(&listener, unacknowledged_ms)?;
    sockopt::set_socket_keepalive(&listener, true)?;
    sockopt::set_tcp_keepidle(&listener, UNACKNOWLEDGED_MAX)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

fn random_port() -> io::Result<u16> {
    let mut bytes = [0; 4];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    let span = u32::from(PORTS.end() - PORTS.start()) + 1;
    let offset =
        u16::try_from(u32::from_ne_bytes(bytes) % span).expect("the span fits a port number");
    Ok(PORTS.start() + offset)
}

async fn listen_ipc(
    address: &str,
    path: &Path,
) -> Result<std::os::unix::net::UnixListener, ChannelError> {
    let bound = match bind_ipc(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_abandoned(path).await => {
            std::fs::remove_file(path).and_then(|()| bind_ipc(path))
        }
        other => other,
    };
    bound.map_err(|error| refused(address, error))
}

/// Restricts the socket before it has a name: its file is made with these permissions, so that nobody
/// else ever gets in, and whatever somebody puts in the place of the file is left alone.
fn bind_ipc(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// True for a socket file whose process is dead.
async fn is_abandoned(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    is_socket
        && matches!(UnixStream::connect(path).await, Err(error) if error.kind() == ErrorKind::ConnectionRefused)
}

/// Why listening failed, in the operator's terms.
fn refused(address: &str, source: io::Error) -> ChannelError {
    let address = address.to_owned();
    match source.kind() {
        ErrorKind::AddrInUse => ChannelError::InUse { address },
        _ => ChannelError::Listen { address, source },
    }
}
