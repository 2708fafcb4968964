//! The source endpoint: carries out what its engine decides, with real sockets, files and time.
//!
//! One task owns the engine, the watcher and both channels, so that the order in which things are told
//! to the engine is the order in which they happened. Files are read by [`Readers`].

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::compressing::{Compressing, Packed};
use super::emptied::Emptied;
use super::memory::Memory;
use super::mounts::Mounts;
use super::reader::ReaderSettings;
use super::reading::Readers;
use super::scratch::Scratch;
use super::unheard;
use super::watch::inotify::InotifyLimits;
use super::watch::{self as events, Pollable, RawEvent, What};
use crate::channel::zmtp::{Exposure, Listener};
use crate::channel::{Channel, Incoming, Peer};
use crate::clock::Clock;
use crate::config::{Address, OnCritical, Settings, WatchBackend};
use crate::engine::session::Heartbeat;
use crate::engine::source::{self as engine, Action, Event, Pace, Source};
use crate::engine::work::{Finding, Spilled};
use crate::engine::{Now, Ticket};
use crate::error::Error;
use crate::fs::Fs;
use crate::fs::real::{Reading, RealFs, RootIdentity, SourceNotes, ignore_lease_signal};
use crate::owners;
use crate::report::{Limit, Status};
use crate::root::{self, Use};
use crate::state::{KnownRoot, Role, SourceState, StateDir, random, random_id};
use crate::supervisor::Supervisor;
use crate::tree::{Escaped, LimitKind, RelPath};
use crate::wire::message::{Command, ErrorAnswer, ErrorCode, Reply, ToSource};
use crate::wire::{
    Frames, decode_command, decode_to_source, encode_command, encode_to_sink, frames_bytes,
};

/// Where a source listens, with the ports that it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Command channel.
    pub command: Address,
    /// Data channel.
    pub data: Address,
}

/// What a source endpoint is told.
pub struct Options {
    /// The directory to replicate.
    pub root: PathBuf,
    /// Every setting.
    pub settings: Settings,
    /// Called once, when both channels listen and the root is open.
    pub on_listening: Box<dyn FnOnce(Listening) + Send>,
    /// Turns true when the endpoint must terminate in order.
    pub stop: watch::Receiver<bool>,
    /// Who is told that it serves.
    pub supervisor: Supervisor,
}

/// Events of each kind that are taken in one turn, so that no kind starves another.
const BATCH_MAX: usize = 256;

/// While the queue of events is fuller than this share, so many batches of them are taken in one turn: whatever
/// else waits can wait longer than the kernel's queue.
const CALM_FILL: f64 = 1.0 / 16.0;
const HURRIED_BATCHES_MAX: usize = 32;

/// How often the root is checked and the state noted.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Runs a source endpoint until it is told to stop or cannot go on.
///
/// # Errors
/// Whatever does not allow a start, and the loss of a channel or of the watcher.
pub async fn run(options: Options) -> Result<(), Error> {
    let Options {
        root,
        mut settings,
        on_listening,
        mut stop,
        mut supervisor,
    } = options;
    raise_descriptor_limit();
    let mut opened = open(&root, &settings, false)?;
    let (mut channels, listening) = Channels::bind(&settings).await?;
    let mut first = Some((on_listening, listening));
    let mut accepted = false;
    loop {
        let mut daemon = Daemon::new(opened, channels, &settings, accepted)?;
        if let Some((tell, listening)) = first.take() {
            tell(listening);
        }
        let ended = daemon.serve(&mut stop, &mut supervisor).await;
        let Ok(Ended::Reopen { accepted: agreed }) = ended else {
            daemon.close().await;
            return ended.map(drop);
        };
        // What was opened, and what was known of it, belongs to the root as it was; not what operators want.
        settings.limit(daemon.engine.rate_limits());
        channels = daemon.release().await;
        accepted = agreed;
        opened = open(&root, &settings, accepted)?;
    }
}

/// Why the loop ended.
enum Ended {
    Over,
    Reopen { accepted: bool },
}

/// Both channels. They outlive what is known of a root, so that somebody answers all the time.
struct Channels {
    command: Listener,
    data: Listener,
}

impl Channels {
    async fn bind(settings: &Settings) -> Result<(Self, Listening), Error> {
        let exposure = if settings.insecure_bind {
            Exposure::Anywhere
        } else {
            Exposure::Loopback
        };
        let command_at = settings.command.to_string();
        let (command, command_at) = Listener::bind(&command_at, exposure).await?;
        let data_at = settings.data.to_string();
        let (data, data_at) = Listener::bind(&data_at, exposure).await?;
        let listening = Listening {
            command: bound(&command_at)?,
            data: bound(&data_at)?,
        };
        Ok((Self { command, data }, listening))
    }
}

/// Lets this process have as many descriptors as the host allows it. Connections of strangers may take
/// about a thousand, the usual limit, and files are to be opened nevertheless.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!("the limit of descriptors stays as it is: {error}");
    }
}

fn bound(address: &str) -> Result<Address, Error> {
    address
        .parse()
        .map_err(|error| Error::Unexpected(format!("bound to {address}: {error}")))
}

/// The root, opened and checked, with what is remembered of it.
struct Opened {
    path: PathBuf,
    fs: RealFs,
    mounts: Mounts,
    watch: Box<dyn Pollable>,
    dir: StateDir,
    state: SourceState,
    /// What cannot be read.
    limits: Vec<Limit>,
}

fn open(given: &std::path::Path, settings: &Settings, accepted: bool) -> Result<Opened, Error> {
    let base = settings.state_dir()?;
    let path = root::check(given, Use::Source, &base)?;
    ignore_lease_signal()
        .map_err(|error| Error::Unexpected(format!("cannot ignore SIGIO: {error}")))?;
    let unusable = |error: std::io::Error| Error::Root {
        path: given.to_owned(),
        reason: error.to_string(),
    };
    let (fs, notes) = if settings.cross_mounts {
        RealFs::source_with_mounts(&path).map_err(|error| uncloned(given, &error))?
    } else {
        RealFs::source(&path).map_err(unusable)?
    };
    if let Reading::Root(_) = notes.reading {
        tracing::warn!(
            "the root is read through its own mount: {}",
            notes.access_times
        );
    }
    let limits = limits_of(&notes);
    for Limit {
        kind, consequence, ..
    } in &limits
    {
        tracing::warn!("limit of this source: {}: {consequence}", kind.word());
    }
    let mounts = Mounts::open(&fs, &path, &notes, settings)?;
    let dir = StateDir::open(&base, Role::Source, &path, fs.identity())?;
    let state = remembered(&dir, &path, fs.identity(), &mounts, accepted)?;
    let root_fd = fs
        .root()
        .and_then(|root| root.as_fd().try_clone_to_owned())
        .map_err(unusable)?;
    let watch = events::open(settings.watch, root_fd, &path)?;
    Ok(Opened {
        path,
        fs,
        mounts,
        watch,
        dir,
        state,
        limits,
    })
}

/// What this process cannot read, so that nobody knows whether it is there.
fn limits_of(notes: &SourceNotes) -> Vec<Limit> {
    let trusted = Limit {
        kind: LimitKind::TrustedXattrs,
        consequence: "they cannot be seen, and are not replicated; run the source as root"
            .to_owned(),
        entries: None,
    };
    (!notes.sees_trusted)
        .then_some(trusted)
        .into_iter()
        .collect()
}

/// Why the root cannot be read together with what is mounted below it.
fn uncloned(given: &std::path::Path, error: &std::io::Error) -> Error {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM) => "; --cross-mounts needs root's rights (CAP_SYS_ADMIN)",
        Some(libc::EAGAIN) => "; mounts below it come and go all the time",
        _ => "",
    };
    Error::Root {
        path: given.to_owned(),
        reason: format!("{error}{hint}"),
    }
}

/// The state of this root. Another directory in its place, or of something mounted below it, is another
/// source, to which no resume point applies; an empty one is most likely a mount that is missing, unless
/// it was accepted.
fn remembered(
    dir: &StateDir,
    path: &std::path::Path,
    identity: RootIdentity,
    mounts: &Mounts,
    accepted: bool,
) -> Result<SourceState, Error> {
    let root = KnownRoot::new(path, identity);
    let known: Option<SourceState> = dir.load()?;
    let unlike = |what: String| Error::Root {
        path: path.to_owned(),
        reason: format!(
            "{what}, or remove '{}' if this is the new source",
            Escaped::path(dir.path())
        ),
    };
    let is_empty = || root::is_empty(path).map_err(|error| Error::io("list", path, error));
    let mut replaced = known.as_ref().is_some_and(|known| !known.root.is(&root));
    if replaced && !accepted && is_empty()? {
        let what = "it is empty and not the directory that it was; mount the right one";
        return Err(unlike(what.to_owned()));
    }
    if let Some(known) = &known {
        replaced |= match mounts.replaced(&known.mounts) {
            Err(_) if accepted => true,
            compared => compared.map_err(unlike)?,
        };
    }
    let mounts = mounts.known();
    match known {
        Some(state) if !replaced => Ok(SourceState {
            root,
            mounts,
            ..state
        }),
        _ => {
            if replaced {
                tracing::warn!(
                    "the root or a mount below is another directory than before: everything is compared"
                );
            }
            Ok(SourceState {
                root,
                mounts,
                source_id: random_id()?,
                carryover: std::collections::BTreeMap::new(),
            })
        }
    }
}

fn engine_settings(opened: &Opened, settings: &Settings) -> Result<engine::Settings, Error> {
    let identity = opened.fs.identity();
    Ok(engine::Settings {
        root: Escaped::path(&opened.path).to_string(),
        root_identity: format!("{:x}:{:x}", identity.dev, identity.ino),
        source_id: opened.state.source_id.clone(),
        instance: random()?,
        limits: settings.limits(),
        heartbeat: Heartbeat {
            period_ms: settings.heartbeat_ms,
            dead_after_ms: settings.dead_after_ms,
        },
        warning: settings.events_warning,
        critical: settings.events_critical,
        terminate_on_critical: settings.on_critical == OnCritical::Terminate,
        events_remedy: match settings.watch {
            WatchBackend::Inotify => format!(
                "raise the limit with '{}' and restart the source",
                InotifyLimits::read()?.sysctl_for_events()
            ),
            WatchBackend::Notify => "restart the source with '--set watch=inotify'".to_owned(),
        },
        carryover: Memory::carryover(&opened.state),
        filter: settings.filter.clone(),
        limits_of_source: opened.limits.clone(),
        owners: owners::of_this_host().map_err(|error| error.to_string()),
        audit: pace(opened, settings),
        rate_limits: settings.rate_limits(),
    })
}

/// How the tree is audited: more often where not every change is reported.
fn pace(opened: &Opened, settings: &Settings) -> Pace {
    const USUAL: Duration = Duration::from_secs(24 * 3600);
    const UNHEARD: Duration = Duration::from_secs(600);
    let roots = [opened.path.as_path()]
        .into_iter()
        .chain(opened.mounts.paths());
    let usual = match unheard::any(roots) {
        true => UNHEARD,
        false => USUAL,
    };
    let interval = settings.audit_interval.unwrap_or(usual);
    Pace {
        interval_ms: interval.as_millis() as u64,
        entries_per_s: settings.audit_entries_per_s,
    }
}

/// Why the loop woke up.
enum Wake {
    Command(Incoming),
    Data(Incoming),
    Found(Option<(Ticket, Finding)>),
    Packed(Option<Packed>),
    Stop,
    Housekeeping,
    /// Events of the file system, or a deadline of the engine: both are looked at in every turn.
    Turn,
}

/// The loop and everything that it owns.
struct Daemon {
    clock: Clock,
    engine: Source,
    actions: Vec<Action>,
    watch: Box<dyn Pollable>,
    /// A duplicate of the watcher's descriptor, to sleep on.
    ready: AsyncFd<OwnedFd>,
    /// The watcher may hold events that do not make it readable again.
    unread: bool,
    raw: Vec<RawEvent>,
    /// Barriers that have not passed: how much must have been read by then.
    barriers: Vec<(u64, Ticket)>,
    /// A directory at which the limit of watches was met, while there are such.
    unwatched: Option<RelPath>,
    /// How many there were when the operator was last told.
    unwatched_told: u64,
    is_inotify: bool,
    command: Listener,
    data: Listener,
    readers: Readers,
    compressing: Compressing,
    /// Where scratch files are made, and those of the sinks by their keys.
    scratch_dir: PathBuf,
    scratches: HashMap<u64, Scratch>,
    root: PathBuf,
    identity: RootIdentity,
    mounts: Mounts,
    emptied: Emptied,
    memory: Memory,
    housekeeping: Interval,
    is_stopping: bool,
    ended: Option<Ended>,
}

impl Daemon {
    fn new(
        opened: Opened,
        Channels { command, data }: Channels,
        settings: &Settings,
        accepted: bool,
    ) -> Result<Self, Error> {
        let clock = Clock::start();
        let mut actions = Vec::new();
        let mut engine = Source::new(
            engine_settings(&opened, settings)?,
            clock.now(),
            &mut actions,
        );
        let left = Event::MountsNotEntered(opened.mounts.report());
        engine.handle(clock.now(), left, &mut actions);
        let ready = sleep_on(opened.watch.ready_fd())
            .map_err(|error| Error::Unexpected(format!("cannot wait for events: {error}")))?;
        let identity = opened.fs.identity();
        let reading = ReaderSettings {
            lease: settings.read_lease,
            listing_cache_bytes: settings.listing_cache(),
            ..ReaderSettings::default()
        };
        let mut housekeeping = interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            clock,
            engine,
            actions,
            watch: opened.watch,
            ready,
            unread: true,
            raw: Vec::with_capacity(BATCH_MAX),
            barriers: Vec::new(),
            unwatched: None,
            unwatched_told: 0,
            is_inotify: settings.watch == WatchBackend::Inotify,
            command,
            data,
            compressing: Compressing::start(settings.compression)?,
            readers: Readers::start(
                opened.fs,
                reading,
                settings.filter.clone(),
                settings.readers,
                settings.nice,
            )?,
            scratch_dir: opened.dir.path().to_owned(),
            scratches: HashMap::new(),
            emptied: Emptied::new(&opened.path, accepted),
            root: opened.path,
            identity,
            mounts: opened.mounts,
            memory: Memory::new(opened.dir, opened.state)?,
            housekeeping,
            is_stopping: false,
            ended: None,
        })
    }

    /// Turns until the engine has ended.
    async fn serve(
        &mut self,
        stop: &mut watch::Receiver<bool>,
        supervisor: &mut Supervisor,
    ) -> Result<Ended, Error> {
        self.carry_out();
        loop {
            let wake = self.wait(stop, supervisor.deadline()).await;
            self.read_events()?;
            self.take(wake)?;
            self.take_waiting().await?;
            self.pass_barriers();
            let now = self.clock.now();
            if now.ms >= self.engine.deadline() {
                self.tell(now, Event::Tick);
            }
            self.engine.advance(now, &mut self.actions);
            self.carry_out();
            supervisor.turn(|| self.engine.status(now).line());
            if self.is_stopping || matches!(self.ended, Some(Ended::Over)) {
                supervisor.stopping();
            }
            if let Some(ended) = self.ended.take() {
                return Ok(ended);
            }
        }
    }

    async fn wait(&mut self, stop: &mut watch::Receiver<bool>, at_latest: Instant) -> Wake {
        let hurried = self.unread || !self.barriers.is_empty();
        let deadline = self.clock.instant(self.engine.deadline()).min(at_latest);
        tokio::select! {
            incoming = self.command.recv() => Wake::Command(incoming),
            incoming = self.data.recv() => Wake::Data(incoming),
            found = self.readers.found() => Wake::Found(found),
            packed = self.compressing.packed() => Wake::Packed(packed),
            () = told(stop), if !self.is_stopping => Wake::Stop,
            _ = self.housekeeping.tick() => Wake::Housekeeping,
            ready = self.ready.readable() => {
                // Cleared before the read: whatever comes later makes it ready again.
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                Wake::Turn
            }
            () = sleep_until(deadline) => Wake::Turn,
            // Whatever else is ready has the same chance.
            () = tokio::task::yield_now(), if hurried => Wake::Turn,
        }
    }

    fn take(&mut self, wake: Wake) -> Result<(), Error> {
        let now = self.clock.now();
        match wake {
            Wake::Command(incoming) => self.take_command(now, incoming)?,
            Wake::Data(incoming) => self.take_data(now, incoming)?,
            Wake::Found(Some((ticket, finding))) => self.tell_found(now, ticket, finding),
            Wake::Found(None) => {
                return Err(Error::Unexpected("the readers broke down".into()));
            }
            Wake::Packed(Some(packed)) => self.take_packed(packed),
            Wake::Packed(None) => {
                return Err(Error::Unexpected("the compressor broke down".into()));
            }
            Wake::Stop => {
                self.is_stopping = true;
                self.tell(now, Event::Stop);
            }
            Wake::Housekeeping => self.keep_house(now),
            Wake::Turn => {}
        }
        Ok(())
    }

    /// Takes what has come meanwhile, without waiting.
    async fn take_waiting(&mut self) -> Result<(), Error> {
        for _ in 0..BATCH_MAX {
            let Some(incoming) = waiting(&mut self.command).await else {
                break;
            };
            self.take_command(self.clock.now(), incoming)?;
        }
        for _ in 0..BATCH_MAX {
            let Some(incoming) = waiting(&mut self.data).await else {
                break;
            };
            self.take_data(self.clock.now(), incoming)?;
        }
        for _ in 0..BATCH_MAX {
            let Some((ticket, finding)) = self.readers.try_found() else {
                break;
            };
            self.tell_found(self.clock.now(), ticket, finding);
        }
        for _ in 0..BATCH_MAX {
            let Some(packed) = self.compressing.try_packed() else {
                break;
            };
            self.take_packed(packed);
        }
        Ok(())
    }

    fn take_packed(&mut self, packed: Packed) {
        let (peer, frames) = self.compressing.take(packed);
        self.send_data(peer, frames);
    }

    /// What readers saw is told only if the root was not emptied, and every mount was what it was when they
    /// looked (rule 32); else it is dropped, as nothing is done any more.
    fn tell_found(&mut self, now: Now, ticket: Ticket, finding: Finding) {
        let seen = self.mounts.still_there_if_changed();
        if let Err(why) = seen.and_then(|()| self.emptied.admit(&finding)) {
            return self.tell(now, Event::RootLost(why));
        }
        self.tell(now, Event::Found(ticket, finding));
    }

    fn take_command(&mut self, now: Now, incoming: Incoming) -> Result<(), Error> {
        let event = match incoming {
            Incoming::Packet(peer, frames) => match decode_command(&frames) {
                Ok(message) => {
                    self.command.understood(peer);
                    Event::Command(peer, message)
                }
                Err(error) => Event::CommandMalformed(peer, error.to_string()),
            },
            Incoming::Oversized(peer) => Event::CommandMalformed(peer, TOO_LARGE.to_owned()),
            Incoming::Gone(peer) => Event::CommandGone(peer),
            Incoming::Closed => return Err(lost("command")),
        };
        let begins = matches!(
            event,
            Event::Command(_, Command::RegistrationSuccess { .. })
        );
        self.tell(now, event);
        if begins {
            // It may be gone before the next housekeeping.
            self.remember(now, &self.engine.status(now));
        }
        Ok(())
    }

    fn take_data(&mut self, now: Now, incoming: Incoming) -> Result<(), Error> {
        let event = match incoming {
            Incoming::Packet(peer, frames) => match decode_to_source(&frames) {
                Ok(message) => {
                    self.data.understood(peer);
                    if let ToSource::Pong { token } = message {
                        self.compressing.answered(now.ms, peer, token);
                    }
                    Event::Data(peer, message)
                }
                Err(error) => Event::DataMalformed(peer, error.to_string()),
            },
            Incoming::Oversized(peer) => Event::DataMalformed(peer, TOO_LARGE.to_owned()),
            Incoming::Gone(peer) => {
                self.compressing.forget(peer);
                Event::DataGone(peer)
            }
            Incoming::Closed => return Err(lost("data")),
        };
        self.tell(now, event);
        Ok(())
    }

    fn keep_house(&mut self, now: Now) {
        let seen = root::still_there(&self.root, self.identity);
        if let Err(why) = seen.and_then(|()| self.mounts.still_there()) {
            self.tell(now, Event::RootLost(why));
        }
        self.emptied.look();
        if self.mounts.look_again() {
            self.tell(now, Event::MountsNotEntered(self.mounts.report()));
        }
        let status = self.engine.status(now);
        self.tell_unwatched(status.events.unwatched_dirs);
        self.remember(now, &status);
    }

    fn remember(&mut self, now: Now, status: &Status) {
        self.memory.note(status, self.engine.carryover(now));
    }

    // ---- events of the file system -----------------------------------------------------------------

    fn read_events(&mut self) -> Result<(), Error> {
        while_full(|| {
            self.read_batch()?;
            let fill = self.watch.waiting().map(|waiting| self.watch.fill(waiting));
            Ok(self.unread.then(|| fill.unwrap_or(1.0)))
        })
    }

    fn read_batch(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        self.measure_fill(now);
        let mut raw = std::mem::take(&mut self.raw);
        let read = self
            .watch
            .read(&mut raw, BATCH_MAX)
            .map_err(|error| Error::io("read events of", &self.root, error))?;
        for event in raw.drain(..) {
            if matches!(event.what, What::Created | What::MovedTo(_)) {
                self.emptied.name_came();
            }
            self.tell(now, Event::Raw(event));
        }
        self.raw = raw;
        self.unread = read == BATCH_MAX;
        if !self.unread {
            // The queue was empty after every barrier that was set before.
            self.barriers.iter_mut().for_each(|(target, _)| *target = 0);
            self.tell(now, Event::Fill(0, 0.0));
        }
        Ok(())
    }

    /// Asks how full the queue is, before it is read: a short one is empty after every read.
    fn measure_fill(&mut self, now: Now) {
        if let Ok(waiting @ 1..) = self.watch.waiting() {
            self.tell(now, Event::Fill(waiting, self.watch.fill(waiting)));
        }
    }

    fn pass_barriers(&mut self) {
        let consumed = self.watch.consumed();
        let has_passed = |&(target, _): &(u64, Ticket)| target <= consumed;
        while let Some(at) = self.barriers.iter().position(has_passed) {
            let (_, ticket) = self.barriers.remove(at);
            self.tell(self.clock.now(), Event::BarrierPassed(ticket));
        }
    }

    fn bind(&mut self, path: RelPath) {
        let bound = if self.mounts.leads_away(&path) {
            Err(std::io::Error::from_raw_os_error(libc::EXDEV))
        } else {
            self.watch.bind(&path)
        };
        let is_at_limit = |error: &std::io::Error| error.raw_os_error() == Some(libc::ENOSPC);
        if self.unwatched.is_none() && bound.as_ref().is_err_and(is_at_limit) {
            self.unwatched = Some(path.clone());
        }
        let result = bound.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO));
        let now = self.clock.now();
        self.engine
            .handle(now, Event::Bound(path, result), &mut self.actions);
    }

    /// Tells the operator when the limit of watches is met, and again whenever twice as many directories
    /// are concerned as when it was told before.
    fn tell_unwatched(&mut self, dirs: u64) {
        let Some(path) = &self.unwatched else { return };
        if dirs == 0 {
            (self.unwatched, self.unwatched_told) = (None, 0);
        } else if dirs >= 2 * self.unwatched_told {
            self.unwatched_told = dirs;
            let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(path.as_bytes());
            let path = self.root.join(std::path::Path::new(name));
            // More are found while the first walk is under way.
            let advice = match InotifyLimits::read() {
                Ok(limits) if self.is_inotify => {
                    let limit = limits.watches_exhausted(path, Some(2 * dirs));
                    format!("{limit}; {}", limit.hint().unwrap_or_default())
                }
                _ => format!("cannot watch '{}'", Escaped::path(&path)),
            };
            tracing::error!(
                "{dirs} directories are not watched: {advice}; until then they are compared again and again"
            );
        }
    }

    // ---- actions -----------------------------------------------------------------------------------

    fn tell(&mut self, now: Now, event: Event) {
        self.engine.handle(now, event, &mut self.actions);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        // A bind answers at once, which can ask for more.
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                self.act(action);
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Bind { path } => self.bind(path),
            Action::Unbind { wd } => self.watch.unbind(wd),
            Action::Barrier { ticket } => {
                // Where nobody can tell what waits, the queue has to be empty once.
                let waiting = self.watch.waiting().unwrap_or(u64::MAX);
                let target = self.watch.consumed().saturating_add(waiting);
                self.barriers.push((target, ticket));
            }
            Action::Read {
                ticket,
                lane,
                order,
            } => self.readers.read(ticket, lane, order),
            Action::CloseStream { stream } => self.readers.close_stream(stream),
            Action::Spill { key, names } => self.spill(key, names),
            Action::Gather { key, names_max } => self.gather(key, names_max),
            Action::DropSpilled { key } => drop(self.scratches.remove(&key)),
            Action::SendCommand { peer, message } => {
                if matches!(message, Command::RegistrationRequestAcknowledgement { .. }) {
                    self.command.keep(peer);
                }
                self.command.send(peer, encode_command(&message));
            }
            Action::SendData { peer, message } => {
                // The engine speaks on the data channel to connections of its sessions only.
                self.data.keep(peer);
                let now = self.clock.now();
                if let Some(frames) = self.compressing.encode(now.ms, peer, message) {
                    self.send_data(peer, frames);
                }
            }
            Action::DropCommand { peer } => self.command.disconnect(peer),
            Action::DropData { peer } => self.data.disconnect(peer),
            Action::Log { urgent: true, text } => tracing::error!("{text}"),
            Action::Log {
                urgent: false,
                text,
            } => tracing::info!("{text}"),
            Action::Reopen { peer, id, accept } => self.reopen(peer, id, accept),
            Action::Exit => self.ended = Some(Ended::Over),
        }
    }

    fn send_data(&mut self, peer: Peer, frames: Frames) {
        let bytes = frames_bytes(&frames);
        self.data.send(peer, frames);
        let now = self.clock.now();
        if let Some(question) = self.compressing.sent(now.ms, peer, bytes) {
            self.data.send(peer, encode_to_sink(&question));
        }
    }

    fn reopen(&mut self, peer: Peer, id: u64, accept: bool) {
        let reply = match self.may_reopen(accept) {
            Ok(()) => {
                tracing::info!("begins anew with the root as it is now");
                self.ended = Some(Ended::Reopen { accepted: accept });
                Reply::Done
            }
            Err(why) => Reply::Refused(ErrorAnswer {
                code: ErrorCode::OutOfPhase,
                message: format!("{why}; {}", engine::HOW_TO_GO_ON),
            }),
        };
        let message = Command::Reply { id, reply };
        self.command.send(peer, encode_command(&message));
    }

    /// Why the root cannot be gone on with, if it cannot.
    fn may_reopen(&self, accept: bool) -> Result<(), String> {
        if accept {
            return match self.root.metadata() {
                Ok(root) if root.is_dir() => Ok(()),
                Ok(_) => Err("the root is no directory".to_owned()),
                Err(error) => Err(format!("the root cannot be reached: {error}")),
            };
        }
        root::still_there(&self.root, self.identity)?;
        self.mounts.still_there()?;
        self.emptied.restored()
    }

    fn scratch(&mut self, key: u64) -> &mut Scratch {
        let dir = &self.scratch_dir;
        self.scratches
            .entry(key)
            .or_insert_with(|| Scratch::new(dir.clone()))
    }

    fn spill(&mut self, key: u64, names: Vec<Spilled>) {
        if let Err(error) = self.scratch(key).add(names) {
            self.scratch_failed(key, &error);
        }
    }

    fn gather(&mut self, key: u64, names_max: usize) {
        match self.scratch(key).take(names_max) {
            Ok(names) => {
                let now = self.clock.now();
                self.engine
                    .handle(now, Event::Gathered(key, Some(names)), &mut self.actions);
            }
            Err(error) => self.scratch_failed(key, &error),
        }
    }

    fn scratch_failed(&mut self, key: u64, error: &std::io::Error) {
        tracing::error!(
            "names of hard-linked files cannot be kept in '{}': {error}; make room there, the tree is \
             walked again in a minute",
            Escaped::path(&self.scratch_dir)
        );
        self.scratches.remove(&key);
        let now = self.clock.now();
        self.engine
            .handle(now, Event::Gathered(key, None), &mut self.actions);
    }

    /// Lets replies reach those who wait for them, and remembers where everything stands.
    async fn close(mut self) {
        let now = self.clock.now();
        self.remember(now, &self.engine.status(now));
        tokio::join!(self.command.close(), self.data.close());
        self.memory.close();
    }

    /// Ends as [`Self::close`] does, but goes on listening for the next.
    async fn release(mut self) -> Channels {
        let now = self.clock.now();
        self.remember(now, &self.engine.status(now));
        tokio::join!(self.command.disconnect_all(), self.data.disconnect_all());
        self.memory.close();
        Channels {
            command: self.command,
            data: self.data,
        }
    }
}

/// A duplicate of a descriptor, to wait until it is readable.
fn sleep_on(fd: BorrowedFd<'_>) -> std::io::Result<AsyncFd<OwnedFd>> {
    let duplicate = fd.try_clone_to_owned()?;
    // SAFETY: an OwnedFd is the same open descriptor until it is dropped.
    Ok(unsafe { AsyncFd::register(duplicate) }?)
}

const TOO_LARGE: &str = "a message beyond the limits";

fn lost(channel: &str) -> Error {
    Error::Unexpected(format!(
        "the {channel} channel cannot be listened on any more"
    ))
}

/// What a channel has received already.
async fn waiting<C: Channel>(channel: &mut C) -> Option<Incoming> {
    tokio::select! {
        biased;
        incoming = channel.recv() => Some(incoming),
        () = std::future::ready(()) => None,
    }
}

/// Waits until the endpoint must end.
async fn told(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody is left who could tell.
        std::future::pending::<()>().await;
    }
}

/// Reads a batch of events, and further ones while the queue stays full. `read` says how full it is if there are more.
fn while_full<E>(mut read: impl FnMut() -> Result<Option<f64>, E>) -> Result<(), E> {
    for _ in 0..HURRIED_BATCHES_MAX {
        if read()?.is_none_or(|fill| fill < CALM_FILL) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_until_the_queue_is_calm_but_not_without_end() {
        let batches = |fills: &[Option<f64>]| {
            let mut left = fills.iter().chain(std::iter::repeat(&Some(1.0)));
            let mut read = 0;
            let end: Result<(), ()> = while_full(|| {
                read += 1;
                Ok(*left.next().expect("it has no end"))
            });
            assert_eq!(end, Ok(()));
            read
        };
        assert_eq!(batches(&[None]), 1);
        assert_eq!(batches(&[Some(0.05)]), 1, "others are waiting, too");
        assert_eq!(batches(&[Some(0.5), Some(0.2), Some(0.07), Some(0.06)]), 4);
        assert_eq!(batches(&[Some(0.5), None]), 2);
        assert_eq!(batches(&[]), HURRIED_BATCHES_MAX);
    }
}
