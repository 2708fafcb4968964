//! Addresses of channels.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::Deserialize;

use crate::channel::zmtp::PORTS;

/// Where a channel listens: `tcp://HOST:PORT` or `ipc://PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Address {
    /// A port of a host.
    Tcp {
        /// Name or number; a number of version 6 without its brackets.
        host: String,
        /// 0 for any free port.
        port: u16,
    },
    /// A Unix socket.
    Ipc {
        /// Its path.
        path: String,
    },
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{reason}; an address is tcp://HOST:PORT, with a port from 0 (any) to 65535, or ipc://PATH"
)]
pub struct InvalidAddress {
    reason: String,
}

impl Address {
    /// A port of this host that only this host reaches.
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        Self::Tcp {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port,
        }
    }

    /// True if only this host reaches it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Ipc { .. } => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }

    /// True if the port is for the system to choose.
    #[must_use]
    pub fn is_any_port(&self) -> bool {
        matches!(self, Self::Tcp { port: 0, .. })
    }

    /// The same host with this port; a Unix socket stays as it is.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        match self {
            Self::Tcp { host, .. } => Self::Tcp {
                host: host.clone(),
                port,
            },
            Self::Ipc { .. } => self.clone(),
        }
    }

    /// What is unusual about the address.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        match self {
            Self::Tcp { port, .. } if *port != 0 && !PORTS.contains(port) => Some(format!(
                "port {port} is outside {} to {}, which other programs may use or need rights for",
                PORTS.start(),
                PORTS.end()
            )),
            _ => None,
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = |reason: String| InvalidAddress { reason };
        if let Some(path) = text.strip_prefix("ipc://") {
            if path.is_empty() {
                return Err(invalid(format!("'{text}' has no path")));
            }
            return Ok(Self::Ipc { path: path.into() });
        }
        let rest = text
            .strip_prefix("tcp://")
            .ok_or_else(|| invalid(format!("'{text}' begins with neither tcp:// nor ipc://")))?;
        let (host, port) = rest
            .rsplit_once(':')
            .ok_or_else(|| invalid(format!("'{text}' has no port")))?;
        let port = port
            .parse()
            .map_err(|_| invalid(format!("'{port}' in '{text}' is no port")))?;
        let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(Some(inner)) => inner,
            Some(None) => return Err(invalid(format!("'{text}' has no closing bracket"))),
            None if host.contains(':') => {
                return Err(invalid(format!(
                    "'{text}' needs brackets: tcp://[{host}]:{port}"
                )));
            }
            None => host,
        };
        if host.is_empty() {
            return Err(invalid(format!("'{text}' has no host")));
        }
        Ok(Self::Tcp {
            host: host.into(),
            port,
        })
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Ipc { path } => write!(f, "ipc://{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().expect("an address")
    }

    #[test]
    fn is_read_and_written_alike() {
        for text in [
            "tcp://127.0.0.1:7440",
            "tcp://[::1]:0",
            "tcp://storage.example:65535",
            "ipc:///run/o",
        ] {
            assert_eq!(address(text).to_string(), text);
        }
    }

    #[test]
    fn is_refused_with_a_reason() {
        for (text, reason) in [
            (
                "tcp://127.0.0.1:65536",
                "'65536' in 'tcp://127.0.0.1:65536' is no port",
            ),
            ("tcp://127.0.0.1:x", "'x' in 'tcp://127.0.0.1:x' is no port"),
            ("tcp://127.0.0.1", "'tcp://127.0.0.1' has no port"),
            ("tcp://:7440", "'tcp://:7440' has no host"),
            (
                "tcp://::1:7440",
                "'tcp://::1:7440' needs brackets: tcp://[::1]:7440",
            ),
            ("7440", "'7440' begins with neither tcp:// nor ipc://"),
            ("ipc://", "'ipc://' has no path"),
        ] {
            let error = text.parse::<Address>().expect_err(text);
            assert_eq!(error.reason, reason);
        }
    }

    #[test]
    fn knows_what_other_hosts_reach() {
        for (text, local) in [
            ("tcp://127.0.0.1:1", true),
            ("tcp://[::1]:1", true),
            ("tcp://localhost:1", true),
            ("ipc:///run/o", true),
            ("tcp://0.0.0.0:1", false),
            ("tcp://*:1", false),
            ("tcp://10.0.0.1:1", false),
        ] {
            assert_eq!(address(text).is_local(), local, "{text}");
        }
    }

    #[test]
    fn warns_of_unusual_ports_only() {
        for (port, warns) in [
            (0, false),
            (1023, true),
            (1024, false),
            (49151, false),
            (49152, true),
        ] {
            assert_eq!(Address::loopback(port).warning().is_some(), warns, "{port}");
        }
    }
}
