//! Measures the channel over loopback: throughput of large packets under a window, and round trips of
//! small ones. Run by hand: `cargo run --release --example channel_throughput [tcp|ipc]`.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use osync::channel::zmq::{Connection, Exposure, Listener};
use osync::channel::{Channel, Incoming, Peer};

const PACKET_BYTES: usize = 256 * 1024;
const PACKETS: usize = 20_000;
/// Most packets underway.
const WINDOW: usize = 32;
const ROUND_TRIPS: usize = 20_000;

fn main() -> anyhow::Result<()> {
    let dir = std::env::temp_dir();
    let address = match std::env::args().nth(1).as_deref() {
        Some("ipc") => format!(
            "ipc://{}/osync-throughput-{}",
            dir.display(),
            std::process::id()
        ),
        _ => "tcp://127.0.0.1:0".to_owned(),
    };
    let (tell, told) = std::sync::mpsc::channel::<String>();
    // Each side has a runtime of one thread, as the daemons do.
    let receiving = std::thread::spawn(move || runtime()?.block_on(receive(&told.recv()?)));
    runtime()?.block_on(send(&address, &tell))?;
    receiving.join().expect("the receiver does not panic")
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// The listener sends, as the source does.
async fn send(address: &str, tell: &std::sync::mpsc::Sender<String>) -> anyhow::Result<()> {
    let (mut listener, bound) = Listener::bind(address, Exposure::Loopback).await?;
    tell.send(bound)?;
    let peer = answer(&mut listener).await?;

    let header = Bytes::from(vec![1; 64]);
    let content = Bytes::from(vec![2; PACKET_BYTES]);
    let started = Instant::now();
    for n in 0..PACKETS + WINDOW {
        if n >= WINDOW {
            answer(&mut listener).await?;
        }
        if n < PACKETS {
            listener.send(peer, vec![header.clone(), content.clone()]);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{address}: {:.0} MB/s",
        (PACKETS * PACKET_BYTES) as f64 / seconds / 1e6
    );

    let small = Bytes::from(vec![3; 100]);
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let started = Instant::now();
        listener.send(peer, vec![small.clone()]);
        answer(&mut listener).await?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    println!(
        "{address}: round trip of 100 B: p50 {:?}, p99 {:?}",
        times[ROUND_TRIPS / 2],
        times[ROUND_TRIPS * 99 / 100]
    );
    listener.close().await;
    Ok(())
}

async fn answer(listener: &mut Listener) -> anyhow::Result<Peer> {
    match listener.recv().await {
        Incoming::Packet(peer, _) => Ok(peer),
        other => anyhow::bail!("an answer was expected, not {other:?}"),
    }
}

/// The connection answers every packet with 100 B.
async fn receive(address: &str) -> anyhow::Result<()> {
    let (mut connection, up) = Connection::connect(address, Duration::from_secs(5)).await?;
    let small = Bytes::from(vec![3; 100]);
    connection.send(up, vec![small.clone()]);
    while let Incoming::Packet(..) = connection.recv().await {
        connection.send(up, vec![small.clone()]);
    }
    Ok(())
}
