//! A link between both endpoints that fails as links do: cut, stalled, slow, late, or flapping.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::endpoint::Addresses;
use crate::seed::Seed;

/// How long a thread may take to notice that the link has changed.
const TURN: Duration = Duration::from_millis(10);
/// Bytes passed at once.
const PIECE_BYTES: usize = 16 * 1024;
/// Pieces on their way in one direction of a connection: what a late link holds.
const PIECES_MAX: usize = 64;

/// What the link does with what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Passes everything at once.
    Fair,
    /// Closes every connection, and each new one.
    Cut,
    /// Keeps connections open and passes nothing.
    Stalled,
    /// Passes so many bytes a second in each direction of each connection, each of them late.
    Slow {
        /// Bytes a second.
        bytes: u64,
        /// How late.
        delay: Duration,
    },
}

/// Listens for a sink and connects it to a source.
pub struct Proxy {
    sky: Arc<Sky>,
    addresses: Addresses,
    listeners: Vec<JoinHandle<()>>,
}

/// What all threads of a proxy share.
struct Sky {
    weather: Mutex<Weather>,
    is_over: AtomicBool,
    /// Bytes passed, in both directions of all connections.
    passed: AtomicU64,
}

impl Sky {
    fn weather(&self) -> Weather {
        *self.weather.lock().unwrap()
    }

    fn is_open(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed) && self.weather() != Weather::Cut
    }
}

impl Proxy {
    /// A fair link to a source.
    pub fn to(source: &Addresses) -> Self {
        let addresses = Addresses::free();
        let sky = Arc::new(Sky {
            weather: Mutex::new(Weather::Fair),
            is_over: AtomicBool::new(false),
            passed: AtomicU64::new(0),
        });
        let ((command, data), (near_command, near_data)) = (source.ports(), addresses.ports());
        let listen = |near: u16, far: u16| {
            let listener = TcpListener::bind(("127.0.0.1", near)).unwrap();
            listener.set_nonblocking(true).unwrap();
            let sky = Arc::clone(&sky);
            std::thread::spawn(move || accept(&sky, &listener, far))
        };
        let listeners = vec![listen(near_command, command), listen(near_data, data)];
        Self {
            sky,
            addresses,
            listeners,
        }
    }

    /// Where a sink finds it.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Bytes that it has passed, in both directions together.
    pub fn passed(&self) -> u64 {
        self.sky.passed.load(Ordering::Relaxed)
    }

    /// Changes the weather from now on.
    pub fn set(&self, weather: Weather) {
        *self.sky.weather.lock().unwrap() = weather;
    }

    /// Lets the weather change all the time, as drawn from a seed, until `is_over`. Then it is fair.
    pub fn flap(&self, mut seed: Seed, is_over: impl Fn() -> bool) {
        while !is_over() {
            self.set(match seed.below(4) {
                0 => Weather::Cut,
                1 => Weather::Stalled,
                2 => Weather::Slow {
                    bytes: 20_000 + seed.below(2_000_000),
                    delay: Duration::from_millis(seed.below(80)),
                },
                _ => Weather::Fair,
            });
            std::thread::sleep(Duration::from_millis(20 + seed.below(700)));
        }
        self.set(Weather::Fair);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.sky.is_over.store(true, Ordering::Relaxed);
        for listener in self.listeners.drain(..) {
            // A panic there has failed the test by other means.
            drop(listener.join());
        }
    }
}

fn accept(sky: &Arc<Sky>, listener: &TcpListener, far: u16) {
    while !sky.is_over.load(Ordering::Relaxed) {
        match listener.accept() {
            // Dropped while the link is cut.
            Ok((near, _)) if sky.is_open() => connect(sky, near, far),
            Ok(_) => {}
            Err(_) => std::thread::sleep(TURN),
        }
    }
}

fn connect(sky: &Arc<Sky>, near: TcpStream, far: u16) {
    // A source that is not there refuses: the sink sees its connection closed.
    let Ok(far) = TcpStream::connect(("127.0.0.1", far)) else {
        return;
    };
    for (from, to) in [(&near, &far), (&far, &near)] {
        from.set_nonblocking(false).unwrap();
        from.set_read_timeout(Some(TURN)).unwrap();
        let (pieces, to_pass) = sync_channel(PIECES_MAX);
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let (above, below) = (Arc::clone(sky), Arc::clone(sky));
        // Both end with the connection.
        drop(std::thread::spawn(move || take(&above, from, &pieces)));
        drop(std::thread::spawn(move || pass(&below, &to, &to_pass)));
    }
}

type Piece = (Instant, Vec<u8>);

fn take(sky: &Sky, mut from: TcpStream, pieces: &SyncSender<Piece>) {
    let mut buffer = vec![0; PIECE_BYTES];
    while sky.is_open() {
        let due = match sky.weather() {
            Weather::Slow { delay, .. } => Instant::now() + delay,
            _ => Instant::now(),
        };
        match from.read(&mut buffer) {
            Ok(bytes @ 1..) if pieces.send((due, buffer[..bytes].to_vec())).is_ok() => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => break,
        }
    }
    // The one that passes notices that nothing comes any more, and closes the other side.
    drop(from.shutdown(Shutdown::Both));
}

fn pass(sky: &Sky, mut to: &TcpStream, pieces: &Receiver<Piece>) {
    while let Ok((due, piece)) = pieces.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        while sky.weather() == Weather::Stalled && !sky.is_over.load(Ordering::Relaxed) {
            std::thread::sleep(TURN);
        }
        if !sky.is_open() || to.write_all(&piece).is_err() {
            break;
        }
        sky.passed.fetch_add(piece.len() as u64, Ordering::Relaxed);
        if let Weather::Slow { bytes, .. } = sky.weather() {
            std::thread::sleep(Duration::from_secs_f64(piece.len() as f64 / bytes as f64));
        }
    }
    drop(to.shutdown(Shutdown::Both));
}
