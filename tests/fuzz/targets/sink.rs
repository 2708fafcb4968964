//! A sink at the mercy of its source: the real machine and the real applier on a file system in memory,
//! told any messages in any order, with any epochs and numbers, structured and as bytes, while
//! connections are lost, syncs fail and users meddle.
//!
//! What must hold whatever comes: it never panics; what waits is bounded by the credit; a change is
//! applied once, in a session that was confirmed, with all numbers before it there; a session is
//! confirmed only when nothing older can take effect; marks claim no more than is true; what is
//! excluded stays as it is; and whatever the sink says its source can read.

use std::collections::{BTreeMap, BTreeSet};

use osync::engine::Now;
use osync::engine::session::Heartbeat;
use osync::engine::sink::{Action, Event, Settings, Sink, Standing};
use osync::fs::memory::MemoryFs;
use osync::sink::applier::Applier;
use osync::sink::brake::Brake;
use osync::tree::{Filter, Kind, Name, RelPath, TargetLimits};
use osync::wire::message::{
    Change, Command, Credit, ErrorAnswer, ErrorCode, Lane, Outcome, ToSink, ToSource,
};
use osync::wire::{
    decode_command, decode_to_sink, decode_to_source, encode_command, encode_to_sink,
    encode_to_source,
};

// Said in full, as the search by coverage has this file elsewhere.
#[path = "sink/input.rs"]
mod input;

use super::wire::frames;
use input::{FILE_BYTES_MAX, FILTERS, Input, filter, path};

const WINDOW: Credit = Credit {
    bytes: 1 << 20,
    messages: 16,
};
const WINDOW_MAX: Credit = Credit {
    bytes: 4 << 20,
    messages: 64,
};
/// Messages beyond the window that a sink may hold.
const SLACK_MESSAGES: usize = 64;
const APPLYING_MAX: usize = 4;
/// Bytes that fit on the target.
const DISK_BYTES: usize = 1 << 16;
/// Most steps of one history.
const STEPS_MAX: usize = 2000;

/// Plays the history that the bytes stand for.
pub fn run(data: &[u8]) {
    let mut world = World::new();
    let mut input = Input(data);
    for _ in 0..STEPS_MAX {
        if input.0.is_empty() || world.has_ended {
            return;
        }
        world.step(&mut input);
    }
}

/// What is known of a session that the sink has confirmed.
#[derive(Default)]
struct Session {
    epoch: u64,
    /// Numbers that came.
    came: BTreeSet<u64>,
    /// Numbers whose changes were handed out, and those that have ended, with their outcomes.
    begun: BTreeSet<u64>,
    ended: BTreeMap<u64, Outcome>,
    /// Numbers whose outcomes were told.
    told: BTreeSet<u64>,
    applied: u64,
    /// Everything up to here had ended when the last sync that succeeded began.
    durable: u64,
    /// The source has acknowledged the success.
    flows: bool,
}

impl Session {
    /// The last number up to which all have ended.
    fn whole(&self) -> u64 {
        (1..)
            .take_while(|number| self.ended.contains_key(number))
            .count() as u64
    }
}

struct World {
    engine: Sink,
    actions: Vec<Action>,
    applier: Applier<MemoryFs>,
    fs: MemoryFs,
    now: Now,
    filter: Filter,
    /// What the filter excludes, as it must stay.
    excluded: Vec<(RelPath, String)>,
    /// A connection is wanted, or there.
    is_wanted: bool,
    is_connected: bool,
    nonces: Vec<u64>,
    seen: BTreeMap<usize, u64>,
    running: BTreeMap<u64, (Lane, Change)>,
    session: Option<Session>,
    /// What had ended when the sync under way began, and whether nothing ran then.
    syncing: Option<(u64, bool)>,
    /// Since the last session: stages were freed, and all that was applied was synced.
    is_freed: bool,
    is_synced: bool,
    has_ended: bool,
}

impl World {
    fn new() -> Self {
        let fs = MemoryFs::default();
        fs.disk().bytes_max = DISK_BYTES;
        for dir in ["keep", "d", "d/keep"] {
            let (above, name) = path(dir).split().expect("it is not the root");
            let mut disk = fs.disk();
            let above = disk.find(&above).expect("it was made before");
            let made = disk.make_dir(above, &name).expect("it is free");
            let file = Name::new(b"x").expect("it is a name");
            disk.create(made, &file, Kind::File, b"as it was")
                .expect("it is free");
        }
        let mut actions = Vec::new();
        let settings = Settings {
            sink_id: "sink".to_owned(),
            instance: 1,
            window: WINDOW,
            window_max: WINDOW_MAX,
            applying_max: APPLYING_MAX,
            heartbeat: Heartbeat::default(),
            limits: TargetLimits::default(),
            owners: None,
            sync_interval_ms: 50,
        };
        let engine = Sink::new(settings, Standing::default(), &mut actions);
        let mut world = Self {
            engine,
            actions,
            applier: Applier::new(fs.clone(), Brake::new(1000, 1.0), None),
            fs,
            now: Now::default(),
            filter: Filter::default(),
            excluded: Vec::new(),
            is_wanted: false,
            is_connected: false,
            nonces: Vec::new(),
            seen: BTreeMap::new(),
            running: BTreeMap::new(),
            session: None,
            syncing: None,
            is_freed: false,
            is_synced: false,
            has_ended: false,
        };
        world.settle();
        world
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 => self.connect(input),
            1 => self.handshake(input),
            2 => self.synchronise(input),
            3..=7 => self.send_change(input),
            8 | 9 => self.apply(input),
            10 => self.end_sync(input),
            11 => self.now.ms += u64::from(input.byte()) * 50,
            12 => self.send_bytes(input),
            13 => self.send_command(input),
            14 => self.meddle(input),
            _ => self.lose(input),
        }
        if self.now.ms >= self.engine.deadline() {
            self.tell(Event::Tick);
        }
        self.settle();
    }

    // ---- what happens ------------------------------------------------------------------------------

    fn connect(&mut self, input: &mut Input<'_>) {
        if std::mem::take(&mut self.is_wanted) {
            self.is_connected = true;
            self.seen.clear();
            self.nonces = (0..=input.below(2)).map(|at| at as u64 + 10).collect();
            self.tell(Event::Connected(self.nonces.clone()));
        }
    }

    /// What a source says that begins a session, all at once or the first part.
    fn handshake(&mut self, input: &mut Input<'_>) {
        let epoch = u64::from(input.byte() % 4);
        let filter = filter(input.one(&FILTERS));
        self.command(Command::RegistrationRequestAcknowledgement {
            epoch,
            source_id: "source".to_owned(),
            payload_bytes_max: 1,
            root: String::new(),
            filter,
        });
        if input.below(4) > 0 {
            for at in 0..self.nonces.len() {
                let nonce = self.nonces[at];
                self.data(at, ToSink::Synchronisation { nonce });
            }
            self.settle();
            while !self.running.is_empty() {
                self.apply(input);
                self.settle();
            }
            self.finish_sync(true);
            self.settle();
            self.finish_sync(true);
            self.settle();
            self.command(Command::RegistrationSuccessAcknowledgement { epoch });
        }
    }

    fn synchronise(&mut self, input: &mut Input<'_>) {
        let at = input.below(3);
        let nonce = input.one(&[10, 11, 99]);
        self.data(at, ToSink::Synchronisation { nonce });
    }

    fn send_change(&mut self, input: &mut Input<'_>) {
        let session = self.session.as_ref();
        let (epoch, next) = session.map_or((1, 1), |session| {
            (
                session.epoch,
                session.came.last().map_or(1, |last| last.wrapping_add(1)),
            )
        });
        let (epoch, number) = match input.byte() {
            0..=7 => (epoch.wrapping_add(1), next),
            8..=15 => (epoch, next.wrapping_add(1)),
            16..=23 => (epoch, next.wrapping_sub(1)),
            24 => (epoch, u64::MAX),
            25 => (epoch, 0),
            _ => (epoch, next),
        };
        let connection = input.below(2);
        let change = ToSink::Change {
            epoch,
            number,
            lane: input.one(&[Lane::Live, Lane::Backlog]),
            change: input.change(),
        };
        if let Ok(change) = decode_to_sink(&encode_to_sink(&change)) {
            self.data(connection, change);
        }
    }

    fn send_bytes(&mut self, input: &mut Input<'_>) {
        let (is_command, connection) = (input.below(4) == 0, input.below(2));
        let packet = frames(&input.bytes());
        if is_command {
            match decode_command(&packet) {
                Ok(message) => self.command(message),
                Err(error) => self.malformed(error.to_string()),
            }
            return;
        }
        match decode_to_sink(&packet) {
            Ok(ToSink::Change {
                change: Change::Base { size, .. } | Change::Chunk { size, .. },
                ..
            }) if size > FILE_BYTES_MAX => {}
            Ok(message) => self.data(connection, message),
            Err(error) => self.malformed(error.to_string()),
        }
    }

    fn malformed(&mut self, why: String) {
        if self.is_connected {
            self.tell(Event::Malformed(why));
        }
    }

    fn send_command(&mut self, input: &mut Input<'_>) {
        let ours = self.session.as_ref().map_or(1, |session| session.epoch);
        let epoch = input.one(&[ours, ours, ours, 0]);
        let error = |code| {
            let message = "no".to_owned();
            Command::Error(ErrorAnswer { code, message })
        };
        let command = match input.below(10) {
            0 => Command::RegistrationSuccessAcknowledgement { epoch },
            1 => Command::UnregisterAcknowledgement { epoch },
            2 => Command::ServiceTermination { epoch },
            3 => Command::ReleaseBrake { epoch },
            4 => Command::Ping { token: epoch },
            5 => Command::Pong { token: epoch },
            6 => error(ErrorCode::Version),
            7 => error(ErrorCode::Busy),
            8 => Command::Unregister { epoch },
            _ => return self.tell(Event::Stop),
        };
        self.command(command);
    }

    fn lose(&mut self, input: &mut Input<'_>) {
        if self.is_connected && input.below(4) == 0 {
            self.is_connected = false;
            self.tell(Event::Lost("cut".to_owned()));
        }
    }

    /// A user at work on the target.
    fn meddle(&mut self, input: &mut Input<'_>) {
        let (at, name) = (input.path(), input.name());
        {
            let mut disk = self.fs.disk();
            let Ok(dir) = disk.find(&at) else { return };
            // Whatever the file system refuses is as well.
            drop(match input.below(4) {
                0 => disk.create(dir, &name, Kind::File, b"foreign").map(drop),
                1 => disk.make_dir(dir, &name).map(drop),
                2 => disk.unlink(dir, &name),
                _ => disk.remove_dir(dir, &name),
            });
        }
        self.excluded = self.what_is_excluded();
    }

    fn apply(&mut self, input: &mut Input<'_>) {
        if self.running.is_empty() {
            return;
        }
        let at = input.below(self.running.len());
        let number = *self.running.keys().nth(at).expect("there are so many");
        let (lane, change) = self.running.remove(&number).expect("it was just seen");
        let shown = format!("{change:?}");
        let outcome = self.applier.apply(lane, change);
        assert_eq!(
            self.what_is_excluded(),
            self.excluded,
            "something excluded has changed by {shown}"
        );
        assert!(self.fs.disk().used() <= DISK_BYTES, "the target overflows");
        if let Some(session) = &mut self.session
            && session.begun.contains(&number)
        {
            session.ended.insert(number, outcome.clone());
        }
        self.is_synced = false;
        self.tell(Event::Applied(number, outcome));
    }

    fn end_sync(&mut self, input: &mut Input<'_>) {
        self.finish_sync(input.below(8) > 0);
    }

    fn finish_sync(&mut self, ok: bool) {
        let Some((whole, was_idle)) = self.syncing.take() else {
            return;
        };
        if ok {
            self.is_synced = was_idle;
            if let Some(session) = &mut self.session {
                session.durable = session.durable.max(whole.min(session.whole()));
            }
        }
        self.tell(Event::Synced { ok, took_ms: 1 });
    }

    fn command(&mut self, message: Command) {
        // Only what the decoder lets through reaches the machine.
        if !self.is_connected || decode_command(&encode_command(&message)).is_err() {
            return;
        }
        if let (Command::RegistrationSuccessAcknowledgement { epoch }, Some(session)) =
            (&message, &mut self.session)
        {
            session.flows |= *epoch == session.epoch;
        }
        self.tell(Event::Command(message));
    }

    fn data(&mut self, connection: usize, message: ToSink) {
        if !self.is_connected || connection >= self.nonces.len() {
            return;
        }
        match &message {
            ToSink::Synchronisation { nonce } => {
                self.seen.insert(connection, *nonce);
            }
            ToSink::Change { epoch, number, .. } => {
                if let Some(session) = &mut self.session
                    && session.epoch == *epoch
                {
                    session.came.insert(*number);
                }
            }
            ToSink::Ping { .. } => {}
        }
        self.tell(Event::Data(connection, message));
    }

    // ---- what the machine does ---------------------------------------------------------------------

    fn tell(&mut self, event: Event) {
        if !self.has_ended {
            self.engine.handle(self.now, event, &mut self.actions);
            self.carry_out();
        }
    }

    fn settle(&mut self) {
        if !self.has_ended {
            self.engine.advance(self.now, &mut self.actions);
            self.carry_out();
        }
        if let Some(session) = &self.session {
            let held = session.came.len().saturating_sub(session.ended.len());
            let most = WINDOW_MAX.messages as usize + SLACK_MESSAGES;
            // The one beyond it has ended the session, or will be the last of it.
            assert!(held <= most + 1, "{held} messages are held");
        }
    }

    fn carry_out(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            assert!(!self.has_ended, "{action:?} after the end");
            match action {
                Action::Connect { .. } => {
                    self.is_wanted = true;
                    self.is_connected = false;
                    self.session = None;
                }
                Action::SendCommand(message) => self.sent_command(&message),
                Action::SendData(_, message) => self.sent_data(&message),
                Action::Apply {
                    number,
                    lane,
                    change,
                } => self.begin(number, lane, change),
                Action::FreeStages => {
                    assert!(self.running.is_empty(), "stages are freed while in use");
                    self.applier.free_stages();
                    self.is_freed = true;
                }
                Action::Filter(filter) => {
                    assert!(self.running.is_empty(), "the filter changes under a change");
                    self.applier.set_filter(filter.clone());
                    self.filter = filter;
                    self.excluded = self.what_is_excluded();
                }
                Action::Sync { .. } => {
                    assert!(self.syncing.is_none(), "two syncs at once");
                    let whole = self.session.as_ref().map_or(0, Session::whole);
                    self.syncing = Some((whole, self.running.is_empty()));
                }
                Action::ReleaseBrake => assert!(self.session.is_some(), "the brake lets go"),
                Action::Log { .. } => {}
                Action::Exit { .. } => self.has_ended = true,
            }
        }
    }

    fn begin(&mut self, number: u64, lane: Lane, change: Change) {
        let session = self
            .session
            .as_mut()
            .expect("a change is applied in a session");
        let all = (1..=number).all(|number| session.came.contains(&number));
        assert!(all, "{number} is applied before its turn");
        assert!(session.begun.insert(number), "{number} is applied twice");
        self.is_freed = false;
        self.running.insert(number, (lane, change));
        assert!(self.running.len() <= APPLYING_MAX, "too much at once");
    }

    fn sent_command(&mut self, message: &Command) {
        let read = decode_command(&encode_command(message));
        assert!(read.is_ok(), "{message:?} cannot be read: {read:?}");
        if let Command::RegistrationSuccess { epoch, credit } = message {
            assert!(self.running.is_empty(), "something older is still applied");
            assert!(self.is_freed, "stages of an older session are there");
            assert!(self.is_synced, "what was applied before is not durable");
            let mut nonces = self.nonces.iter().enumerate();
            let all = nonces.all(|(at, nonce)| self.seen.get(&at) == Some(nonce));
            assert!(all, "not every connection was seen");
            assert_eq!(*credit, WINDOW);
            self.session = Some(Session {
                epoch: *epoch,
                ..Session::default()
            });
        }
    }

    fn sent_data(&mut self, message: &ToSource) {
        let read = decode_to_source(&encode_to_source(message));
        assert!(read.is_ok(), "{message:?} cannot be read: {read:?}");
        let ToSource::Acknowledgement {
            epoch,
            outcomes,
            applied,
            durable,
            credit,
        } = message
        else {
            return;
        };
        let session = self.session.as_mut().expect("marks are told in a session");
        assert!(session.flows, "marks are told before the session flows");
        assert_eq!(*epoch, session.epoch);
        for (number, outcome) in outcomes {
            assert_eq!(
                session.ended.get(number),
                Some(outcome),
                "{number} is told otherwise"
            );
            assert!(session.told.insert(*number), "{number} is told twice");
        }
        let whole = session.whole();
        assert!(
            (session.applied..=whole).contains(applied),
            "applied is {applied} of {whole}"
        );
        assert!(
            *durable <= session.durable.min(*applied),
            "durable is {durable}"
        );
        session.applied = *applied;
        for (number, outcome) in session.ended.range(..=*applied) {
            let is_told = *outcome == Outcome::default() || session.told.contains(number);
            assert!(
                is_told,
                "the mark {applied} covers {number}, which was not told"
            );
        }
        let most = WINDOW_MAX.messages + session.ended.len() as u64;
        assert!(credit.messages <= most, "more credit than room");
    }

    /// Every entry that the filter excludes, with what it is.
    fn what_is_excluded(&self) -> Vec<(RelPath, String)> {
        if self.filter.is_empty() {
            return Vec::new();
        }
        let disk = self.fs.disk();
        let mut found = Vec::new();
        for (path, ino) in disk.paths() {
            let Ok(stat) = disk.stat(ino) else { continue };
            if self.filter.excludes(&path, stat.kind == Kind::Dir) {
                let shown = (
                    stat.kind,
                    stat.mode,
                    stat.uid,
                    stat.gid,
                    disk.xattrs(ino).ok(),
                );
                // The times of a directory are those of what lies in it, which is compared as well.
                let content = (stat.kind == Kind::File).then(|| disk.content(ino).ok());
                found.push((path, format!("{ino} {shown:?} {content:?}")));
            }
        }
        found
    }
}
