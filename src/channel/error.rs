//! Why a channel could not be made.

use std::io;
use std::time::Duration;

/// Why listening or connecting failed, for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The text is no address that a channel can use.
    #[error("{address:?} is not an address: {problem}; write tcp://HOST:PORT or ipc:///PATH")]
    Address {
        /// The text.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Other hosts could reach the address, and nobody agreed to that.
    #[error(
        "{address} can be reached from other hosts, and channels are neither encrypted nor \
         authenticated; listen on tcp://127.0.0.1:PORT or ipc:///PATH and forward that with ssh -L, \
         or allow the exposure explicitly"
    )]
    Exposed {
        /// The address.
        address: String,
    },
    /// Another program listens there.
    #[error("{address} is in use; stop the program that listens there, or choose another address")]
    InUse {
        /// The address.
        address: String,
    },
    /// Port 0 was asked for, and every port that was tried was taken.
    #[error("no free port for {address} after {tries} tries; name a port that is free")]
    NoFreePort {
        /// The address.
        address: String,
        /// How many ports were tried.
        tries: u32,
    },
    /// The operating system refused to listen there.
    #[error("cannot listen on {address}: {source}; check the address and the permissions")]
    Listen {
        /// The address.
        address: String,
        /// Its reason.
        source: io::Error,
    },
    /// Nothing listens there.
    #[error("nothing listens on {address}; start the other side, or check the address")]
    Refused {
        /// The address.
        address: String,
    },
    /// The network or the operating system refused the connection.
    #[error("cannot connect to {address}: {source}; check the address, the network and the tunnel")]
    Unreachable {
        /// The address.
        address: String,
        /// Its reason.
        source: io::Error,
    },
    /// Nothing answered in time.
    #[error("{address} did not answer within {timeout:?}; check the other side and the tunnel")]
    Timeout {
        /// The address.
        address: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// Something answered that does not speak the protocol, or broke off.
    #[error(
        "{address} broke off the handshake: {problem}; is it really the port of osync, and is the far end of the tunnel alive?"
    )]
    Handshake {
        /// The address.
        address: String,
        /// What it did.
        problem: String,
    },
}
