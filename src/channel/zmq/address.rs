//! Addresses of channels, and listening on them.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, chmod};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::net::UnixStream;
use zeromq::{Endpoint, Host};

use crate::channel::ChannelError;

/// Ports from which port 0 chooses: without privileges, and outside of those that the kernel gives to
/// outgoing connections.
pub const PORTS: RangeInclusive<u16> = 1024..=49151;

/// Ports tried for port 0 before giving up.
const PORT_TRIES_MAX: u32 = 64;

/// How long an accepted connection may leave bytes unacknowledged before the kernel ends it. The crate
/// cannot end a connection that has something left to write, so without this a peer that is stuck
/// would occupy its window for ever. Well above the heartbeat, which decides when a peer is dead.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

/// Longest path of a Unix socket, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Who may reach a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// This host only.
    Loopback,
    /// Whoever the network lets through. Anybody who can connect can read the tree, and can abort the
    /// process.
    Anywhere,
}

/// Reads `tcp://HOST:PORT` or `ipc:///PATH`.
pub(super) fn parse(address: &str) -> Result<Endpoint, ChannelError> {
    let wrong = |problem: String| ChannelError::Address {
        address: address.to_owned(),
        problem,
    };
    let endpoint = address
        .parse::<Endpoint>()
        .map_err(|error| wrong(error.to_string()))?;
    if let Endpoint::Ipc(Some(path)) = &endpoint {
        if !path.is_absolute() {
            return Err(wrong("the path of the socket is not absolute".to_owned()));
        }
        if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(wrong(format!(
                "the path is longer than {SOCKET_PATH_BYTES_MAX} bytes"
            )));
        }
    }
    Ok(endpoint)
}

/// Listens on an address; returns the listener and the address as bound.
pub(super) async fn listen(
    address: &str,
    exposure: Exposure,
) -> Result<(zeromq::Listener, String), ChannelError> {
    match parse(address)? {
        Endpoint::Tcp(host, port) => {
            let resolved = resolve(&host, port)
                .await
                .map_err(|source| ChannelError::Listen {
                    address: address.to_owned(),
                    source,
                })?;
            if exposure == Exposure::Loopback && !resolved.ip().is_loopback() {
                return Err(ChannelError::Exposed {
                    address: address.to_owned(),
                });
            }
            let (listener, bound) = listen_tcp(address, resolved)?;
            Ok((listener.into(), format!("tcp://{bound}")))
        }
        Endpoint::Ipc(Some(path)) => {
            let listener = listen_ipc(address, &path).await?;
            Ok((listener.into(), address.to_owned()))
        }
        _ => Err(ChannelError::Address {
            address: address.to_owned(),
            problem: "only tcp and ipc can be listened on".to_owned(),
        }),
    }
}

/// The first address of a host; `*` is every address.
async fn resolve(host: &Host, port: u16) -> io::Result<SocketAddr> {
    let name = match host.to_string() {
        any if any == "*" => "0.0.0.0".to_owned(),
        name => name,
    };
    tokio::net::lookup_host((name.as_str(), port))
        .await?
        .next()
        .ok_or_else(|| io::Error::from(ErrorKind::AddrNotAvailable))
}

fn listen_tcp(
    address: &str,
    mut wanted: SocketAddr,
) -> Result<(TcpListener, SocketAddr), ChannelError> {
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

fn bind_tcp(wanted: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(wanted)?;
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

async fn listen_ipc(address: &str, path: &Path) -> Result<UnixListener, ChannelError> {
    let bound = match bind_ipc(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_abandoned(path).await => {
            std::fs::remove_file(path).and_then(|()| bind_ipc(path))
        }
        other => other,
    };
    bound.map_err(|error| refused(address, error))
}

/// Binds and restricts the socket before it listens, so that nobody else ever gets in.
fn bind_ipc(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    chmod(path, Mode::RUSR | Mode::WUSR)?;
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
