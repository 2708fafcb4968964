//! Addresses: what is accepted, what is refused, and what the operator is told.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{HANG, connection, listener, packet, text, within};
use crate::channel::zmtp::{Connection, Exposure, Listener, PORTS};
use crate::channel::{Channel, ChannelError};

async fn bind_error(address: &str, exposure: Exposure) -> ChannelError {
    match Listener::bind(address, exposure).await {
        Ok((_, bound)) => panic!("{bound} was bound"),
        Err(error) => error,
    }
}

async fn connect_error(address: &str, timeout: Duration) -> ChannelError {
    match within(Connection::connect(address, timeout)).await {
        Ok(_) => panic!("{address} was connected"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn port_0_is_a_registered_port() {
    for _ in 0..20 {
        let (_listener, address) = listener().await;
        let port: u16 = address.rsplit(':').next().unwrap().parse().unwrap();
        assert!(PORTS.contains(&port), "{address}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (_listener, address) = listener().await;
    let error = bind_error(&address, Exposure::Loopback).await;
    assert!(matches!(error, ChannelError::InUse { .. }));
    assert!(error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn a_port_is_free_again_after_close() {
    let (listener, address) = listener().await;
    let (mut peer, up) = connection(&address).await;
    peer.send(up, text("hello"));
    within(listener.close()).await;
    let (mut listener, bound) = Listener::bind(&address, Exposure::Loopback).await.unwrap();
    assert_eq!(bound, address);
    let (mut peer, up) = connection(&address).await;
    peer.send(up, text("again"));
    assert_eq!(packet(&mut listener).await.1, text("again"));
}

#[tokio::test]
async fn bad_addresses_are_explained() {
    let long = format!("ipc:///{}", "x".repeat(200));
    for address in [
        "",
        "nonsense",
        "udp://127.0.0.1:1",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:99999",
        "tcp://:7440",
        "ipc://relative",
        "ipc://*",
        &long,
    ] {
        let bound = bind_error(address, Exposure::Anywhere).await;
        assert!(
            matches!(bound, ChannelError::Address { .. }),
            "{address}: {bound}"
        );
        let connected = connect_error(address, HANG).await;
        assert!(
            matches!(connected, ChannelError::Address { .. }),
            "{address}: {connected}"
        );
    }
    let error = bind_error("tcp://192.0.2.1:0", Exposure::Anywhere).await;
    assert!(matches!(error, ChannelError::Listen { .. }), "{error}");
    let error = bind_error("ipc:///nowhere/at/all", Exposure::Loopback).await;
    assert!(matches!(error, ChannelError::Listen { .. }), "{error}");
}

#[tokio::test]
async fn other_hosts_get_in_only_when_allowed() {
    for address in [
        "tcp://0.0.0.0:0",
        "tcp://*:0",
        "tcp://[::]:0",
        "tcp://192.0.2.1:0",
    ] {
        let error = bind_error(address, Exposure::Loopback).await;
        assert!(
            matches!(error, ChannelError::Exposed { .. }),
            "{address}: {error}"
        );
    }
    let (_listener, address) = Listener::bind("tcp://*:0", Exposure::Anywhere)
        .await
        .unwrap();
    assert!(address.starts_with("tcp://0.0.0.0:"), "{address}");
    let (_listener, address) = Listener::bind("tcp://localhost:0", Exposure::Loopback)
        .await
        .unwrap();
    connection(&address).await;
}

#[tokio::test]
async fn a_socket_file_is_private_and_removed_at_the_end() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("socket");
    let address = format!("ipc://{}", path.display());
    let (listener, _) = Listener::bind(&address, Exposure::Loopback).await.unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let error = bind_error(&address, Exposure::Loopback).await;
    assert!(matches!(error, ChannelError::InUse { .. }), "{error}");
    within(listener.close()).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn an_abandoned_socket_file_is_replaced_and_another_file_is_not() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("socket");
    let address = format!("ipc://{}", path.display());
    // The standard library leaves the file behind, as a killed process does.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = connect_error(&address, HANG).await;
    assert!(matches!(error, ChannelError::Refused { .. }), "{error}");
    let (listener, _) = Listener::bind(&address, Exposure::Loopback).await.unwrap();
    connection(&address).await;
    within(listener.close()).await;

    std::fs::write(&path, "precious").unwrap();
    let error = bind_error(&address, Exposure::Loopback).await;
    assert!(matches!(error, ChannelError::InUse { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_missing_listener_is_noticed_before_the_timeout() {
    let (listener, address) = listener().await;
    within(listener.close()).await;
    let started = Instant::now();
    for address in [address.as_str(), "ipc:///nowhere/at/all"] {
        let error = connect_error(address, HANG).await;
        assert!(matches!(error, ChannelError::Refused { .. }), "{error}");
    }
    assert!(started.elapsed() < HANG);
}

#[tokio::test]
async fn a_silent_listener_times_out() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", silent.local_addr().unwrap());
    let error = connect_error(&address, Duration::from_millis(300)).await;
    assert!(matches!(error, ChannelError::Timeout { .. }), "{error}");
}
