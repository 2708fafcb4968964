//! Peers in other processes, stopped and killed. The other process is this test program again, told
//! by its environment what to be.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid,
};
use tokio::time::timeout;

use super::{connection, listener, next, packet, text, within};
use crate::channel::zmtp::{Exposure, Listener};
use crate::channel::{Channel, Incoming, OUTGOING_PACKETS_MAX};

/// What a started process is to be: `listen ADDRESS` or `connect ADDRESS`. It echoes what it gets.
const ROLE: &str = "OSYNC_TEST_CHANNEL_ROLE";

/// The other process. Does nothing when the tests are run.
#[tokio::test]
async fn role() {
    let Ok(role) = env::var(ROLE) else { return };
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    match role.split_once(' ').unwrap() {
        ("listen", address) => {
            let (mut listener, bound) = Listener::bind(address, Exposure::Loopback).await.unwrap();
            writeln!(std::io::stdout(), "\n{bound}").unwrap();
            loop {
                if let Incoming::Packet(peer, frames) = listener.recv().await {
                    listener.send(peer, frames);
                }
            }
        }
        (_, address) => {
            let (mut connection, up) = connection(address).await;
            connection.send(up, text("hello"));
            while let Incoming::Packet(peer, frames) = connection.recv().await {
                connection.send(peer, frames);
            }
        }
    }
}

/// A running process, killed at the end.
struct Process(Child);

impl Process {
    fn start(role: &str) -> Self {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "channel::tests::process::role", "--nocapture"])
            .env(ROLE, role)
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    /// The address that it says it listens on.
    fn address(&mut self) -> String {
        let lines = BufReader::new(self.0.stdout.take().unwrap()).lines();
        lines
            .map(Result::unwrap)
            .find(|line| line.starts_with("tcp://"))
            .unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Stops it, and waits until it has stopped.
    fn stop(&self) {
        self.signal(Signal::STOP);
        waitpid(Some(Pid::from_child(&self.0)), WaitOptions::UNTRACED).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_killed_listener_is_noticed_and_its_successor_reached() {
    let mut process = Process::start("listen tcp://127.0.0.1:0");
    let address = process.address();
    let (mut first, up) = connection(&address).await;
    first.send(up, text("one"));
    assert_eq!(packet(&mut first).await.1, text("one"));

    process.signal(Signal::KILL);
    assert_eq!(next(&mut first).await, Incoming::Closed);
    drop(process);

    let _successor = Process::start(&format!("listen {address}"));
    let (mut second, up) = loop {
        let connected =
            crate::channel::zmtp::Connection::connect(&address, Duration::from_secs(5)).await;
        if let Ok(connected) = connected {
            break connected;
        }
    };
    second.send(up, text("two"));
    assert_eq!(packet(&mut second).await.1, text("two"));
}

#[tokio::test]
async fn a_killed_peer_is_noticed() {
    let (mut listener, address) = listener().await;
    let process = Process::start(&format!("connect {address}"));
    let (peer, _) = packet(&mut listener).await;
    process.signal(Signal::KILL);
    assert_eq!(next(&mut listener).await, Incoming::Gone(peer));
}

/// The stopped peer's window fills, the live one's does not; memory is bounded, nothing blocks.
#[tokio::test]
async fn a_stopped_peer_beside_a_live_one() {
    let (mut listener, address) = listener().await;
    let process = Process::start(&format!("connect {address}"));
    let (stopped, _) = packet(&mut listener).await;
    let (mut live, up) = connection(&address).await;
    live.send(up, text("hello"));
    let (live_peer, _) = packet(&mut listener).await;

    process.stop();
    let content = Bytes::from(vec![1; 64 * 1024]);
    // As much as may be queued, and far more than any buffer underneath holds.
    for _ in 0..OUTGOING_PACKETS_MAX {
        listener.send(stopped, vec![content.clone()]);
    }
    for _ in 0..1000 {
        listener.send(live_peer, vec![content.clone()]);
        assert_eq!(packet(&mut live).await.1, vec![content.clone()]);
    }
    let nothing = timeout(Duration::from_millis(1), listener.recv()).await;
    assert!(
        nothing.is_err(),
        "{nothing:?}, but only silence tells a stopped peer"
    );

    process.signal(Signal::CONT);
    for _ in 0..OUTGOING_PACKETS_MAX {
        assert_eq!(packet(&mut listener).await.1, vec![content.clone()]);
    }
    within(live.close()).await;
    assert_eq!(next(&mut listener).await, Incoming::Gone(live_peer));
}
