//! Measures the channel over loopback: throughput of packets under a window, and round trips of small
//! ones. Run by hand: `cargo run --release --example channel_throughput [tcp|ipc]`.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use osync::channel::zmtp::{Connection, Exposure, Listener};
use osync::channel::{Channel, Incoming, Peer};

/// What is sent in one go: packets of one size, of which every so many are answered.
struct Load {
    packet_bytes: usize,
    packets: usize,
    answered: usize,
}

const LOADS: [Load; 4] = [
    Load {
        packet_bytes: 64,
        packets: 2_000_000,
        answered: 16,
    },
    Load {
        packet_bytes: 4 * 1024,
        packets: 400_000,
        answered: 16,
    },
    Load {
        packet_bytes: 64 * 1024,
        packets: 80_000,
        answered: 1,
    },
    Load {
        packet_bytes: 256 * 1024,
        packets: 20_000,
        answered: 1,
    },
];

/// Most answers that are missing.
const WINDOW: usize = 32;
const ROUND_TRIPS: usize = 20_000;

/// The first byte of a header, if the packet is to be answered.
const ANSWER: u8 = 1;

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
    listener.keep(peer);
    for load in &LOADS {
        throughput(&mut listener, peer, load).await?;
    }

    let small = Bytes::from(vec![ANSWER; 100]);
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let started = Instant::now();
        listener.send(peer, vec![small.clone()]);
        answer(&mut listener).await?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    println!(
        "round trip of 100 B: p50 {:?}, p99 {:?}",
        times[ROUND_TRIPS / 2],
        times[ROUND_TRIPS * 99 / 100]
    );
    listener.close().await;
    Ok(())
}

async fn throughput(listener: &mut Listener, peer: Peer, load: &Load) -> anyhow::Result<()> {
    // Small packets are one part, large ones a header and content.
    let content = Bytes::from(vec![2; load.packet_bytes]);
    let header = |first: u8| Bytes::from(vec![first; 64.min(load.packet_bytes)]);
    let (asking, silent) = (header(ANSWER), header(0));
    let mut missing = 0;
    let started = Instant::now();
    for n in 1..=load.packets {
        let asks = n % load.answered == 0;
        let header = if asks { &asking } else { &silent };
        let mut frames = vec![header.clone()];
        if load.packet_bytes > 64 {
            frames.push(content.clone());
        }
        listener.send(peer, frames);
        missing += usize::from(asks);
        if missing == WINDOW {
            answer(listener).await?;
            missing -= 1;
        }
    }
    for _ in 0..missing {
        answer(listener).await?;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{} B: {:.0} packets/s, {:.0} MB/s",
        load.packet_bytes,
        load.packets as f64 / seconds,
        (load.packets * load.packet_bytes) as f64 / seconds / 1e6
    );
    Ok(())
}

async fn answer(listener: &mut Listener) -> anyhow::Result<Peer> {
    match listener.recv().await {
        Incoming::Packet(peer, _) => Ok(peer),
        other => anyhow::bail!("an answer was expected, not {other:?}"),
    }
}

/// The connection answers those packets that ask for it with 100 B.
async fn receive(address: &str) -> anyhow::Result<()> {
    let (mut connection, up) = Connection::connect(address, Duration::from_secs(5)).await?;
    let small = Bytes::from(vec![3; 100]);
    connection.send(up, vec![small.clone()]);
    while let Incoming::Packet(_, frames) = connection.recv().await {
        if frames[0][0] == ANSWER {
            connection.send(up, vec![small.clone()]);
        }
    }
    Ok(())
}
