//! The sink endpoint: carries out what its engine decides, with real sockets, files and time.
//!
//! One task owns the engine and the connections. Changes are applied by [`Appliers`], and made durable
//! by [`Durability`].

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until};

use super::applier::Applier;
use super::applying::Appliers;
use super::brake::Brake;
use super::connecting::{Link, Links, Route};
use super::distrust::LastEnd;
use super::durability::{Durability, Synced};
use crate::channel::Incoming;
use crate::clock::{Clock, wall};
use crate::config::{Owners, Settings, WINDOW_MESSAGES_MAX};
use crate::engine::Now;
use crate::engine::session::Heartbeat;
use crate::engine::sink::{self as engine, Action, Event, Sink, Standing};
use crate::engine::walk::Suspicion;
use crate::error::Error;
use crate::fs::real::{MountTable, RealFs, RootIdentity, SinkOptions as FsOptions};
use crate::owners;
use crate::root::{self, Use};
use crate::state::{KnownRoot, Role, SinkState, StateDir, random, random_id};
use crate::supervisor::Supervisor;
use crate::tree::{LimitKind, OwnerTables, TargetLimits};
use crate::wire::message::{Credit, ErrorAnswer, Outcome};
use crate::wire::{decode_command, decode_to_sink, encode_command, encode_to_source};

/// What a sink endpoint is told.
pub struct Options {
    /// The directory to replicate to.
    pub root: PathBuf,
    /// True if a target that osync does not know may hold entries already.
    pub adopt: bool,
    /// Every setting.
    pub settings: Settings,
    /// Turns true when the endpoint must terminate in order.
    pub stop: watch::Receiver<bool>,
    /// Who is told that it serves.
    pub supervisor: Supervisor,
}

/// Events of each kind that are taken in one turn, so that no kind starves another.
const BATCH_MAX: usize = 256;

/// Changes handed out ahead for each applier, so that none waits for the loop.
const APPLYING_PER_THREAD: usize = 8;

/// How often the brake is told the time.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How long nothing must have been applied before a brake that the operator has released holds again,
/// in milliseconds.
const RELEASED_MS: u64 = 10_000;

/// A target that was found to be usable, and is locked for this process.
pub struct Target {
    path: PathBuf,
    fs: RealFs,
    dir: StateDir,
    state: SinkState,
    limits: TargetLimits,
    owners: Option<OwnerTables>,
    distrust: Vec<Suspicion>,
}

impl Target {
    /// Opens a target and finds out what it can hold. It stays as it was.
    ///
    /// # Errors
    /// [`Error::Root`], [`Error::Nested`], [`Error::NotEmpty`] or [`Error::Folding`] if it cannot be
    /// used; [`Error::Setting`] if the state directory cannot, or if users and groups are to be
    /// matched by name and this host's tables of them cannot be read.
    pub fn open(given: &Path, adopt: bool, settings: &Settings) -> Result<Self, Error> {
        let base = settings.state_dir()?;
        let path = root::check(given, Use::Sink, &base)?;
        let mut fs = RealFs::sink(&path, FsOptions::default()).map_err(|error| Error::Root {
            path: given.to_owned(),
            reason: error.to_string(),
        })?;
        let mounts = MountTable::open().and_then(|mut table| table.below(&path));
        let unread = |error| Error::io("read the mounts below", &path, error);
        root::tell_not_entered(mounts.map_err(unread)?.iter());
        let dir = StateDir::open(&base, Role::Sink, &path, fs.identity())?;
        let root = KnownRoot::new(&path, fs.identity());
        let known: Option<SinkState> = dir.load()?;
        let state = match known {
            Some(state) if state.root.is(&root) => SinkState { root, ..state },
            Some(_) if !adopt => {
                return Err(Error::Root {
                    path,
                    reason:
                        "it is another directory than before; is everything mounted? --adopt takes \
                             it over: what the source does not have is then removed from it"
                            .to_owned(),
                });
            }
            Some(_) => SinkState::known(root)?,
            None => {
                let is_empty =
                    root::is_empty(&path).map_err(|error| Error::io("list", &path, error))?;
                if !adopt && !is_empty {
                    return Err(Error::NotEmpty { path });
                }
                SinkState::known(root)?
            }
        };
        let limits = limits_of(&mut fs, &path, state.limits.as_ref())?;
        if limits.has(LimitKind::FoldedNames) && !settings.allow_folding {
            return Err(Error::Folding { path });
        }
        for kind in limits.kinds() {
            let consequence = limits.consequence(kind);
            tracing::warn!("limit of the target: {}: {consequence}", kind.word());
        }
        let mut state = SinkState {
            limits: Some(limits.clone()),
            ..state
        };
        let owners = match settings.owners {
            Owners::Numeric => None,
            Owners::Names => Some(owners::to_send()?),
        };
        let distrust = state.end.start(wall());
        Ok(Self {
            path,
            fs,
            dir,
            state,
            limits,
            owners,
            distrust,
        })
    }
}

/// What the target cannot hold: found out now, or if that is not possible (it may be full), what was
/// found out before.
fn limits_of(
    fs: &mut RealFs,
    path: &Path,
    known: Option<&TargetLimits>,
) -> Result<TargetLimits, Error> {
    match (fs.probe(), known) {
        (Ok(limits), _) => Ok(limits),
        (Err(error), Some(known)) => {
            tracing::warn!(
                "what the target can hold cannot be tried: {error}; taken as it was before"
            );
            fs.assume(known);
            Ok(known.clone())
        }
        (Err(error), None) => Err(Error::io("try what can be held in", path, error)),
    }
}

impl SinkState {
    /// The state of a target of which osync has just come to know.
    fn known(root: KnownRoot) -> Result<Self, Error> {
        Ok(Self {
            root,
            sink_id: random_id()?,
            standing: Standing::default(),
            end: LastEnd::unknown(wall()),
            limits: None,
        })
    }
}

/// Runs a sink endpoint until it is told to stop, its source has terminated, or it cannot go on.
///
/// # Errors
/// Whatever does not allow a start (see [`Target::open`]); [`Error::Refused`] if the source refuses this
/// sink for good.
pub async fn run(options: Options) -> Result<(), Error> {
    let target = Target::open(&options.root, options.adopt, &options.settings)?;
    run_on(target, options.settings, options.stop, options.supervisor).await
}

/// As [`run`], on a target that is open already.
///
/// # Errors
/// [`Error::Refused`] if the source refuses this sink for good, or what the system refuses.
pub async fn run_on(
    target: Target,
    settings: Settings,
    mut stop: watch::Receiver<bool>,
    supervisor: Supervisor,
) -> Result<(), Error> {
    target
        .fs
        .clear_stage()
        .map_err(|error| Error::io("clear the stage of", &target.path, error))?;
    let mut daemon = Daemon::new(target, &settings, supervisor)?;
    let ended = daemon.serve(&mut stop).await;
    daemon.close(ended).await
}

/// Why the loop woke up.
enum Wake {
    Received(Link, Incoming),
    Connected(Result<Links, Error>),
    Applied(Option<(u64, Outcome)>),
    Synced(Option<Synced>),
    Stop,
    Housekeeping,
    Deadline,
}

type Connecting = Pin<Box<dyn Future<Output = Result<Links, Error>>>>;

/// The loop and everything that it owns.
struct Daemon {
    clock: Clock,
    root: PathBuf,
    identity: RootIdentity,
    engine: Sink,
    actions: Vec<Action>,
    route: Route,
    /// The connections, while there are any.
    links: Option<Links>,
    /// Connections being made.
    connecting: Option<Connecting>,
    applier: Arc<Applier<RealFs>>,
    appliers: Appliers,
    durability: Durability,
    housekeeping: Interval,
    /// When a change was last handed out or ended.
    busy_ms: u64,
    /// The operator has released the brake.
    is_released: bool,
    supervisor: Supervisor,
    is_stopping: bool,
    exit: Option<Option<ErrorAnswer>>,
}

impl Daemon {
    fn new(target: Target, settings: &Settings, supervisor: Supervisor) -> Result<Self, Error> {
        let Target {
            path,
            fs,
            dir,
            state,
            limits,
            owners,
            distrust,
        } = target;
        // Its end is not in order until it has come to it.
        dir.save(&state)
            .map_err(|error| Error::io("write the state in", dir.path(), error))?;
        let identity = fs.identity();
        let brake = Brake::new(settings.brake_floor_entries, settings.brake_share)
            .with_walk_share(settings.walk_brake_share);
        let applier =
            Applier::new(fs, brake, distrust).within(settings.stages_max, settings.listing_cache());
        // Where names stand for others, what is found under one must not change meanwhile.
        let (applier, appliers) = if limits.has(LimitKind::FoldedNames) {
            (applier.on_folding_target(), 1)
        } else {
            (applier, settings.appliers)
        };
        let applier = Arc::new(applier);
        let mut actions = Vec::new();
        let engine = Sink::new(
            engine::Settings {
                sink_id: state.sink_id.clone(),
                instance: random()?,
                window: Credit {
                    bytes: settings.window_bytes,
                    messages: settings.window_messages,
                },
                window_max: Credit {
                    bytes: settings.window_bytes_max,
                    messages: WINDOW_MESSAGES_MAX,
                },
                applying_max: appliers * APPLYING_PER_THREAD,
                heartbeat: Heartbeat {
                    period_ms: settings.heartbeat_ms,
                    dead_after_ms: settings.dead_after_ms,
                },
                limits,
                owners,
                sync_interval_ms: settings.sync_interval_ms,
            },
            state.standing.clone(),
            &mut actions,
        );
        let mut housekeeping = interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            clock: Clock::start(),
            root: path,
            identity,
            engine,
            actions,
            route: Route::new(settings),
            links: None,
            connecting: None,
            appliers: Appliers::start(&applier, appliers, settings.nice)?,
            durability: Durability::start(Arc::clone(&applier), dir, state)?,
            applier,
            housekeeping,
            busy_ms: 0,
            is_released: false,
            supervisor,
            is_stopping: false,
            exit: None,
        })
    }

    /// Turns until the engine has ended. Returns why it was refused, if it was.
    async fn serve(
        &mut self,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Option<ErrorAnswer>, Error> {
        loop {
            let now = self.clock.now();
            if now.ms >= self.engine.deadline() {
                self.tell(now, Event::Tick);
            }
            self.engine.advance(now, &mut self.actions);
            self.carry_out(now);
            self.tell_supervisor();
            if let Some(refused) = self.exit.take() {
                self.supervisor.stopping();
                return Ok(refused);
            }
            let wake = self.wait(stop).await;
            self.take(wake)?;
            self.take_waiting().await;
        }
    }

    async fn wait(&mut self, stop: &mut watch::Receiver<bool>) -> Wake {
        let deadline = self.clock.instant(self.engine.deadline());
        let deadline = deadline.min(self.supervisor.deadline());
        tokio::select! {
            (link, incoming) = receive(&mut self.links) => Wake::Received(link, incoming),
            links = connected(&mut self.connecting) => Wake::Connected(links),
            applied = self.appliers.applied() => Wake::Applied(applied),
            synced = self.durability.synced() => Wake::Synced(synced),
            () = told(stop), if !self.is_stopping => Wake::Stop,
            _ = self.housekeeping.tick() => Wake::Housekeeping,
            () = sleep_until(deadline) => Wake::Deadline,
        }
    }

    fn take(&mut self, wake: Wake) -> Result<(), Error> {
        let now = self.clock.now();
        match wake {
            Wake::Received(link, incoming) => self.take_incoming(now, link, incoming),
            Wake::Connected(links) => {
                self.connecting = None;
                let links = links?;
                let nonces = (0..links.data_connections())
                    .map(|_| random())
                    .collect::<Result<_, _>>()?;
                self.links = Some(links);
                self.tell(now, Event::Connected(nonces));
            }
            Wake::Applied(Some((number, outcome))) => self.take_outcome(now, number, outcome),
            Wake::Applied(None) => {
                return Err(Error::Unexpected("the appliers broke down".into()));
            }
            Wake::Synced(Some(Synced { ok, took_ms })) => {
                self.tell(now, Event::Synced { ok, took_ms });
            }
            Wake::Synced(None) => {
                return Err(Error::Unexpected("the durability thread broke down".into()));
            }
            Wake::Stop => {
                self.is_stopping = true;
                self.supervisor.stopping();
                // A session that has not begun need not begin.
                self.connecting = None;
                self.tell(now, Event::Stop);
            }
            Wake::Housekeeping => self.keep_house(now)?,
            Wake::Deadline => {}
        }
        Ok(())
    }

    /// Takes what has come meanwhile, without waiting.
    async fn take_waiting(&mut self) {
        for _ in 0..BATCH_MAX {
            let Some(links) = &mut self.links else { break };
            let Some((link, incoming)) = links.waiting().await else {
                break;
            };
            self.take_incoming(self.clock.now(), link, incoming);
        }
        for _ in 0..BATCH_MAX {
            let Some((number, outcome)) = self.appliers.try_applied() else {
                break;
            };
            self.take_outcome(self.clock.now(), number, outcome);
        }
    }

    fn take_incoming(&mut self, now: Now, link: Link, incoming: Incoming) {
        let event = match (incoming, link) {
            (Incoming::Packet(_, frames), Link::Command) => match decode_command(&frames) {
                Ok(message) => Event::Command(message),
                Err(error) => Event::Malformed(error.to_string()),
            },
            (Incoming::Packet(_, frames), Link::Data(number)) => match decode_to_sink(&frames) {
                Ok(message) => Event::Data(number, message),
                Err(error) => Event::Malformed(error.to_string()),
            },
            (Incoming::Oversized(_), _) => {
                Event::Malformed("a message beyond the limits".to_owned())
            }
            (Incoming::Gone(_) | Incoming::Closed, _) => {
                self.links = None;
                Event::Lost("the connection to the source is lost".to_owned())
            }
        };
        self.tell(now, event);
    }

    fn take_outcome(&mut self, now: Now, number: u64, outcome: Outcome) {
        self.busy_ms = now.ms;
        self.tell(now, Event::Applied(number, outcome));
    }

    fn keep_house(&mut self, now: Now) -> Result<(), Error> {
        // Whatever is in its place now is not what the next start may take for the target (I7).
        root::still_there(&self.root, self.identity).map_err(|reason| Error::Root {
            path: self.root.clone(),
            reason,
        })?;
        let brake = &self.applier.brake;
        brake.tick(now.ms);
        if self.is_released && now.ms >= self.busy_ms + RELEASED_MS {
            self.is_released = false;
            brake.engage();
        }
        Ok(())
    }

    /// Of the lag only the source knows.
    fn tell_supervisor(&mut self) {
        let (is_stopping, in_transfer) = (self.is_stopping, self.engine.in_transfer());
        let source = self.route.source();
        self.supervisor.turn(|| match (is_stopping, in_transfer) {
            (true, _) => "termination".to_owned(),
            (false, true) => format!("transfer from {source}"),
            (false, false) => format!("initialisation: waiting for {source}"),
        });
    }

    // ---- actions -----------------------------------------------------------------------------------

    fn tell(&mut self, now: Now, event: Event) {
        self.engine.handle(now, event, &mut self.actions);
        self.carry_out(now);
    }

    fn carry_out(&mut self, now: Now) {
        for action in std::mem::take(&mut self.actions) {
            self.act(now, action);
        }
    }

    fn act(&mut self, now: Now, action: Action) {
        match action {
            Action::Connect { attempt } => {
                self.links = None;
                self.connecting = Some(Box::pin(self.route.clone().connect(attempt)));
            }
            Action::SendCommand(message) => self.send(Link::Command, encode_command(&message)),
            Action::SendData(number, message) => {
                self.send(Link::Data(number), encode_to_source(&message));
            }
            Action::Apply {
                number,
                lane,
                change,
            } => {
                self.busy_ms = now.ms;
                self.appliers.apply(number, lane, change);
            }
            Action::FreeStages => self.applier.free_stages(),
            Action::Filter(filter) => self.applier.set_filter(filter),
            Action::Sync { standing, tidy } => self.durability.sync(standing, tidy),
            Action::ReleaseBrake => {
                tracing::info!("the operator agrees to the removals that were held back");
                self.is_released = true;
                self.busy_ms = now.ms;
                self.applier.brake.release();
            }
            Action::Log { urgent: true, text } => tracing::error!("{text}"),
            Action::Log {
                urgent: false,
                text,
            } => tracing::info!("{text}"),
            Action::Exit { refused } => self.exit = Some(refused),
        }
    }

    fn send(&mut self, link: Link, frames: crate::wire::Frames) {
        if let Some(links) = &mut self.links {
            links.send(link, frames);
        }
    }

    /// Lets what was said reach the source, and records an end in order.
    async fn close(self, ended: Result<Option<ErrorAnswer>, Error>) -> Result<(), Error> {
        let refused = ended?;
        if let Some(links) = self.links {
            links.close().await;
        }
        match refused {
            None => self.durability.close(self.engine.is_settled()),
            Some(ErrorAnswer { code, message }) => Err(Error::Refused {
                peer: self.route.source().to_owned(),
                code,
                message,
            }),
        }
    }
}

/// What comes next on the connections; never ends while there are none.
async fn receive(links: &mut Option<Links>) -> (Link, Incoming) {
    match links {
        Some(links) => links.recv().await,
        None => std::future::pending().await,
    }
}

/// The connections being made; never ends while none are.
async fn connected(connecting: &mut Option<Connecting>) -> Result<Links, Error> {
    match connecting {
        Some(connecting) => connecting.await,
        None => std::future::pending().await,
    }
}

/// Waits until the endpoint must end.
async fn told(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody is left who could tell.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
