//! A peer that speaks just enough ZMTP 3.0 over a plain TCP connection to misbehave.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sent by either side at the start: signature, version 3.0, mechanism NULL, not a server, filler.
pub(super) fn greeting() -> Vec<u8> {
    let mut bytes = vec![0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0x7F, 3, 0];
    bytes.extend(b"NULL");
    bytes.resize(64, 0);
    bytes
}

/// The READY command of a socket with these properties.
fn ready(properties: &[(&str, &str)]) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    for (name, value) in properties {
        body.push(u8::try_from(name.len()).unwrap());
        body.extend(name.as_bytes());
        body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(value.as_bytes());
    }
    let mut frame = vec![0x04, u8::try_from(body.len()).unwrap()];
    frame.extend(body);
    frame
}

/// The `tcp://` address of a plain one.
pub(super) fn host_and_port(address: &str) -> &str {
    address.strip_prefix("tcp://").unwrap()
}

/// A plain connection. What is written to it arrives before anything that is written elsewhere later.
pub(super) async fn connected(address: &str) -> TcpStream {
    let stream = TcpStream::connect(host_and_port(address)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Does the handshake on a connection, as a socket with these properties.
pub(super) async fn handshake(stream: &mut TcpStream, properties: &[(&str, &str)]) {
    stream.write_all(&greeting()).await.unwrap();
    stream.write_all(&ready(properties)).await.unwrap();
    let mut theirs = [0; 64];
    stream.read_exact(&mut theirs).await.unwrap();
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.unwrap();
    let mut body = vec![0; usize::from(head[1])];
    stream.read_exact(&mut body).await.unwrap();
}

/// A connection of a DEALER that has sent hello.
pub(super) async fn dealer(address: &str) -> TcpStream {
    greeted(address, &[("Socket-Type", "DEALER")]).await
}

/// The same, with an identity of its own choice.
pub(super) async fn named_dealer(address: &str, identity: &str) -> TcpStream {
    greeted(
        address,
        &[("Socket-Type", "DEALER"), ("Identity", identity)],
    )
    .await
}

pub(super) async fn opened(address: &str) -> TcpStream {
    let mut stream = connected(address).await;
    handshake(&mut stream, &[("Socket-Type", "DEALER")]).await;
    stream
}

async fn greeted(address: &str, properties: &[(&str, &str)]) -> TcpStream {
    let mut stream = connected(address).await;
    handshake(&mut stream, properties).await;
    stream.write_all(b"\x00\x05hello").await.unwrap();
    stream
}

/// The start of a message that announces 200 bytes and brings three.
pub(super) const FRAGMENT: &[u8] = b"\x00\xC8abc";

/// A PING command, as libzmq sends with heartbeats: no time to live, and a context.
pub(super) const PING: &[u8] = b"\x04\x0a\x04PING\x00\x00abc";
