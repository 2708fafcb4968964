//! The world: one source, one sink, the network between them, and time.

pub mod steps;
mod troubles;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use osync::channel::Peer;
use osync::engine::Ticket;
use osync::engine::carryover::Carryover;
use osync::engine::queue::HoldOff;
use osync::engine::replica::Limits;
use osync::engine::session::Heartbeat;
use osync::engine::sink::{self, Sink, Standing};
use osync::engine::source::{self, Pace, Source};
use osync::engine::work::{Detail, Finding, Order, Seen, Spilled};
use osync::fs::memory::{Disk, MemoryFs, MemoryWatch};
use osync::report::{Limit, RateLimits};
use osync::sink::applier::Applier;
use osync::sink::brake::Brake;
use osync::sink::distrust::LastEnd;
use osync::source::ahead::Stream;
use osync::source::reader::{Reader, ReaderSettings, end_stream};
use osync::source::watch::Watch;
use osync::tree::{Kind, LimitKind, OwnerTables, RelPath, State as EntryState, Time, View};
use osync::wire::message::{Change, Command, Credit, Lane, Outcome, Reply, Request, ToSink};
use osync::wire::{self, Frames};

use crate::faults::Faults;
use crate::planted::Planted;
use crate::rng::Rng;
use crate::users::Users;
pub use troubles::Side;
use troubles::Troubles;

/// Steps in which both trees must become equal once everything has healed.
const HEALED_STEPS_MAX: u64 = 60_000;

/// Files streamed at once in each lane.
const STREAMS_MAX: usize = 2;

/// One connection; its ends close independently.
#[derive(Debug, Default)]
struct Wire {
    up: VecDeque<Option<Frames>>,
    down: VecDeque<Option<Frames>>,
}

/// The source's process.
struct SourceProcess {
    engine: Source,
    watch: MemoryWatch,
    reader: Reader<MemoryFs>,
    orders: Vec<(Ticket, Order)>,
    found: Vec<(Ticket, Finding)>,
    streams: HashMap<u64, Stream<MemoryFs>>,
    barriers: Vec<(Ticket, u64)>,
    next_stream: u64,
    /// By the keys of the sinks.
    spilled: BTreeMap<u64, Spill>,
}

/// The sink's process.
struct SinkProcess {
    engine: Sink,
    applier: Applier<MemoryFs>,
    work: Vec<(u64, Change)>,
    applied: Vec<(u64, Outcome)>,
    sync: Option<Standing>,
    connect: bool,
    command: Option<u64>,
    data: Vec<u64>,
}

/// What the state directories hold.
#[derive(Debug, Default, Clone)]
struct State {
    standing: Standing,
    end: LastEnd,
    carryover: BTreeMap<String, Carryover>,
}

pub struct World {
    rng: Rng,
    faults: Faults,
    pub users: Arc<Mutex<Users>>,
    /// What strangers put into the target where filters exclude it.
    pub planted: Planted,
    pub src: MemoryFs,
    pub dst: MemoryFs,
    /// The users and groups of the source's host.
    pub source_owners: OwnerTables,
    /// Those of the sink's host, if owners are matched by name.
    pub target_owners: Option<OwnerTables>,
    ms: u64,
    troubles: Troubles,
    source: Option<SourceProcess>,
    sink: Option<SinkProcess>,
    wires: BTreeMap<u64, (bool, Wire)>,
    next_wire: u64,
    instances: u64,
    state: State,
    dst_seen: u64,
    flush: Option<(u64, BTreeMap<RelPath, Vec<u8>>)>,
    next_request: u64,
    healed: bool,
    /// Processes that were told to end in order by a fault.
    ends: BTreeSet<Side>,
    trace: bool,
    digest: u64,
    steps: u64,
    failure: Option<String>,
    power_was_cut: bool,
    /// Content sent to the sink, in bytes.
    content_sent: u64,
    /// Content that the sink was told to keep, in bytes.
    content_kept: u64,
    /// Times that the sink was asked what it holds of a file.
    bases_asked: u64,
    /// Pages listed to find the names of linked inodes.
    searched: u64,
    /// The last answer to a flush: whether it was complete, and with how many problems.
    flushed: Option<(bool, u64)>,
    /// What that answer said is left out.
    flush_lost: Vec<String>,
}

/// Bytes of content that a message carries.
fn content_of(message: &ToSink) -> u64 {
    let ToSink::Change { change, .. } = message else {
        return 0;
    };
    match change {
        Change::Chunk { data, .. } => data.len() as u64,
        Change::Entries { entries, .. } => {
            let bodies = entries.iter().map(|entry| match &entry.state {
                EntryState::Present(_, body) => body.len() as u64,
                EntryState::Absent => 0,
            });
            bodies.sum()
        }
        _ => 0,
    }
}

/// What is spilled, and what of it is being taken back.
#[derive(Debug, Default)]
struct Spill {
    collected: Vec<Spilled>,
    taking: Option<VecDeque<Spilled>>,
}

impl Spill {
    fn take(&mut self, names_max: usize) -> Vec<Spilled> {
        let collected = &mut self.collected;
        let taking = self.taking.get_or_insert_with(|| {
            collected.sort_by(|a, b| (a.links.inode, &a.path).cmp(&(b.links.inode, &b.path)));
            collected.dedup_by(|later, first| {
                later.links.inode == first.links.inode && later.path == first.path
            });
            collected.drain(..).collect()
        });
        let names: Vec<_> = taking.drain(..names_max.min(taking.len())).collect();
        if names.is_empty() {
            self.taking = None;
        }
        names
    }
}

/// The operator's connection.
const OPERATOR: u64 = 1_000_000;

impl World {
    pub fn new(seed: u64, faults: Faults, trace: bool) -> Self {
        let mut users = Users::new(seed, faults.user_acts, faults.names, trace);
        users.links = faults.filter.is_empty();
        let mut world = Self {
            rng: Rng::new(seed),
            users: Arc::new(Mutex::new(users)),
            planted: Planted::default(),
            src: MemoryFs::default(),
            dst: MemoryFs::default(),
            source_owners: OwnerTables::default(),
            target_owners: None,
            ms: 10_000,
            troubles: Troubles::default(),
            source: None,
            sink: None,
            wires: BTreeMap::new(),
            next_wire: 0,
            instances: 0,
            state: State {
                end: LastEnd::unknown(Time::default()),
                ..State::default()
            },
            dst_seen: 0,
            flush: None,
            next_request: 0,
            healed: false,
            ends: BTreeSet::new(),
            trace,
            digest: 0,
            steps: 0,
            failure: None,
            power_was_cut: false,
            flushed: None,
            content_sent: 0,
            content_kept: 0,
            bases_asked: 0,
            searched: 0,
            flush_lost: Vec::new(),
            faults,
        };
        world.src.disk().events_max = world.faults.events_max;
        world.src.disk().watches_max = world.faults.watches_max;
        world.set_clocks();
        if world.trace {
            println!("{:?}", world.faults);
        }
        // Something is there before osync is.
        for _ in 0..world.faults.user_acts / 3 {
            world.user();
        }
        world.dst.disk().limits = world.faults.limits_of_target();
        world.dst.disk().sync();
        world.note_limits();
        world.users().record(&world.src.disk());
        if world.faults.older_target {
            world.leave_older_files();
        }
        world.start_source();
        if !world.faults.sinks_away_at_start {
            world.start_sink();
        }
        world
    }

    /// The target holds some files in another form, as another tool may have left them.
    fn leave_older_files(&mut self) {
        let (src, mut dst) = (self.src.disk(), self.dst.disk());
        for (path, ino) in src.paths() {
            let is_file = src.stat(ino).is_ok_and(|stat| stat.kind == Kind::File);
            let Some((dir, name)) = path.split().filter(|(dir, _)| dir.is_root() && is_file) else {
                continue;
            };
            let mut content = src.content(ino).expect("a file").to_vec();
            match self.rng.below(3) {
                0 => content.truncate(content.len() / 2),
                1 => content.iter_mut().take(2).for_each(|byte| *byte ^= 0x80),
                _ => content.extend_from_within(..content.len().min(3)),
            }
            let dir = dst.find(&dir).expect("a root");
            let made = dst.create(dir, &name, Kind::File, &content);
            let ino = made.expect("a free name");
            // The same size and time would hide it from everybody.
            let mut meta = dst.stat(ino).expect("a file").metadata(Vec::new());
            meta.mtime.secs = -100;
            dst.set_meta(ino, &meta).expect("a file");
        }
        dst.sync();
        self.users().record(&dst);
    }

    pub fn users(&self) -> std::sync::MutexGuard<'_, Users> {
        self.users.lock().expect("no panic in users")
    }

    pub fn user(&self) {
        self.users().act(&mut self.src.disk());
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{:5} {:6} {}", self.steps, self.ms, text());
        }
    }

    // ---- processes ---------------------------------------------------------------------------------

    fn limits(&self) -> Limits {
        Limits {
            queue_entries_max: self.faults.queue_entries_max,
            in_flight_entries_max: self.faults.in_flight_entries_max,
            problems_max: 3,
            hold_off: HoldOff {
                min_ms: 200,
                max_ms: 2_000,
            },
            readings_max: 4,
            streams_max: STREAMS_MAX.min(self.faults.remembered.streams_max),
            visits_max: 4,
            chunk_bytes: 4,
            base_bytes_min: 8,
            block_bytes: 4,
            base_blocks: 3,
            page_names: self.faults.page_names,
            look_names: self.faults.look_names,
            links_max: self.faults.links_max,
            without: self.faults.without,
            ..self.faults.remembered
        }
    }

    fn start_source(&mut self) {
        self.instances += 1;
        let settings = source::Settings {
            root: "source".to_owned(),
            root_identity: "1:1".to_owned(),
            source_id: "source".to_owned(),
            instance: self.instances,
            limits: self.limits(),
            heartbeat: Heartbeat::default(),
            warning: 0.5,
            critical: 0.9,
            terminate_on_critical: false,
            events_remedy: String::new(),
            carryover: self.state.carryover.clone(),
            filter: self.faults.filter.clone(),
            limits_of_source: Vec::new(),
            owners: Ok(self.source_owners.clone()),
            audit: Pace {
                interval_ms: self.faults.audit_ms,
                entries_per_s: 1000,
            },
            rate_limits: self.faults.rate_limits,
        };
        let mut out = Vec::new();
        let engine = Source::new(settings, self.now(), &mut out);
        self.source = Some(SourceProcess {
            engine,
            watch: MemoryWatch::new(self.src.clone()),
            reader: Reader::new(
                ReaderSettings {
                    inline_bytes_max: 8,
                    look_bytes_max: self.faults.look_bytes_max,
                    listing_cache_bytes: self.faults.listing_cache_bytes,
                    ..ReaderSettings::default()
                },
                self.faults.filter.clone(),
            ),
            orders: Vec::new(),
            found: Vec::new(),
            streams: HashMap::new(),
            barriers: Vec::new(),
            next_stream: 0,
            spilled: BTreeMap::new(),
        });
        self.source_actions(out);
    }

    fn start_sink(&mut self) {
        self.instances += 1;
        let settings = sink::Settings {
            sink_id: "sink".to_owned(),
            instance: self.instances,
            window: Credit {
                bytes: 4 << 20,
                messages: self.faults.window_messages,
            },
            window_max: Credit {
                bytes: 8 << 20,
                messages: 2 * self.faults.window_messages,
            },
            applying_max: 3,
            heartbeat: Heartbeat::default(),
            limits: self.dst.disk().limits.clone(),
            owners: self.target_owners.clone(),
            sync_interval_ms: 20,
        };
        let distrust = self.state.end.start(self.sink_now().wall);
        let mut out = Vec::new();
        let engine = Sink::new(settings, self.state.standing.clone(), &mut out);
        let mut applier = Applier::new(self.dst.clone(), Brake::new(1_000_000, 1.0), distrust)
            .within(self.faults.stages_max, self.faults.listing_cache_bytes);
        if self.dst.disk().limits.has(LimitKind::FoldedNames) {
            applier = applier.on_folding_target();
        }
        self.sink = Some(SinkProcess {
            engine,
            applier,
            work: Vec::new(),
            applied: Vec::new(),
            sync: None,
            connect: false,
            command: None,
            data: Vec::new(),
        });
        self.sink_actions(out);
    }

    fn crash_source(&mut self) {
        self.say(|| "CRASH of the source".to_owned());
        self.source = None;
        self.flush = None;
        self.src.disk().forget_watches();
        for (_, wire) in self.wires.values_mut() {
            wire.up.clear();
            wire.down.push_back(None);
        }
    }

    /// It remembers where everything stands.
    fn end_source(&mut self) {
        let now = self.now();
        if let Some(process) = &self.source {
            self.state.carryover.extend(process.engine.carryover(now));
        }
        self.crash_source();
    }

    fn crash_sink(&mut self, power: bool) {
        self.say(|| format!("CRASH of the sink, power cut: {power}"));
        self.sink = None;
        self.close_sink_wires();
        if power {
            let mut rng = self.rng.clone();
            self.dst.disk().power_cut(|| rng.once_in(2));
            self.rng = rng;
            self.power_was_cut = true;
        }
    }

    fn close_sink_wires(&mut self) {
        for (_, wire) in self.wires.values_mut() {
            wire.down.clear();
            let keep = self.rng.below(wire.up.len() + 1);
            wire.up.truncate(keep);
            wire.up.push_back(None);
        }
    }

    fn cut(&mut self) {
        let ids: Vec<u64> = self
            .wires
            .keys()
            .copied()
            .filter(|id| *id != OPERATOR)
            .collect();
        if ids.is_empty() {
            return;
        }
        let all = self.rng.once_in(2);
        let one = ids[self.rng.below(ids.len())];
        self.say(|| {
            format!(
                "CUT of {}",
                if all {
                    "all connections".to_owned()
                } else {
                    format!("connection {one}")
                }
            )
        });
        for id in ids {
            if all || id == one {
                let (_, wire) = self.wires.get_mut(&id).expect("a known wire");
                for queue in [&mut wire.up, &mut wire.down] {
                    let keep = self.rng.below(queue.len() + 1);
                    queue.truncate(keep);
                    queue.push_back(None);
                }
            }
        }
    }

    // ---- actions of the source ---------------------------------------------------------------------

    fn source_event(&mut self, event: source::Event) {
        let now = self.now();
        let mut out = Vec::new();
        let Some(process) = &mut self.source else {
            return;
        };
        process.engine.handle(now, event, &mut out);
        process.engine.advance(now, &mut out);
        self.source_actions(out);
    }

    fn source_actions(&mut self, actions: Vec<source::Action>) {
        let now = self.now();
        let mut queue: VecDeque<source::Action> = actions.into();
        while let Some(action) = queue.pop_front() {
            let Some(process) = &mut self.source else {
                return;
            };
            match action {
                source::Action::Reopen { .. } => {
                    self.end_source();
                    self.start_source();
                    return;
                }
                source::Action::Bind { path } => {
                    let result = process
                        .watch
                        .bind(&path)
                        .map_err(|e| e.raw_os_error().unwrap_or(0));
                    let mut more = Vec::new();
                    process
                        .engine
                        .handle(now, source::Event::Bound(path, result), &mut more);
                    for action in more.into_iter().rev() {
                        queue.push_front(action);
                    }
                }
                source::Action::Unbind { wd } => process.watch.unbind(wd),
                source::Action::Barrier { ticket } => {
                    let target =
                        process.watch.consumed() + process.watch.waiting().expect("memory");
                    process.barriers.push((ticket, target));
                }
                source::Action::Read { ticket, order, .. } => process.orders.push((ticket, order)),
                source::Action::CloseStream { stream } => {
                    process.streams.remove(&stream);
                }
                source::Action::Spill { key, names } => {
                    let spill = process.spilled.entry(key).or_default();
                    spill.collected.extend(names);
                }
                source::Action::DropSpilled { key } => drop(process.spilled.remove(&key)),
                source::Action::Gather { key, names_max } => {
                    let names = process.spilled.entry(key).or_default().take(names_max);
                    let mut more = Vec::new();
                    let gathered = source::Event::Gathered(key, Some(names));
                    process.engine.handle(now, gathered, &mut more);
                    queue.extend(more);
                }
                source::Action::SendCommand { peer, message } => {
                    if peer.0 == OPERATOR {
                        self.operator_hears(message);
                    } else if let Some((_, wire)) = self.wires.get_mut(&peer.0) {
                        wire.down.push_back(Some(wire::encode_command(&message)));
                    }
                }
                source::Action::SendData { peer, message } => {
                    self.content_sent += content_of(&message);
                    self.note_base(&message);
                    if let Some((_, wire)) = self.wires.get_mut(&peer.0) {
                        if self.trace && matches!(message, wire::message::ToSink::Change { .. }) {
                            println!("      s: {message:?}");
                        }
                        // What is being compressed is overtaken by what goes as it is.
                        let overtakes = self.faults.compressing
                            && matches!(wire.down.back(), Some(Some(_)))
                            && self.rng.once_in(3);
                        let at = wire.down.len() - usize::from(overtakes);
                        wire.down.insert(at, Some(wire::encode_to_sink(&message)));
                    }
                }
                source::Action::DropCommand { peer } | source::Action::DropData { peer } => {
                    if let Some((_, wire)) = self.wires.get_mut(&peer.0) {
                        wire.up.clear();
                        wire.down.push_back(None);
                    }
                }
                source::Action::Log { text, .. } => self.say(|| format!("source: {text}")),
                source::Action::Exit => {
                    self.end_source();
                    return;
                }
            }
        }
    }

    fn watch_step(&mut self) {
        let Some(process) = &mut self.source else {
            return;
        };
        let mut events = Vec::new();
        process.watch.read(&mut events, 1).expect("memory");
        let waiting = process.watch.waiting().expect("memory");
        for event in events {
            self.say(|| format!("e: {event:?}"));
            self.source_event(source::Event::Raw(event));
        }
        if waiting == 0 {
            self.source_event(source::Event::Fill(0, 0.0));
        }
        self.barriers();
    }

    fn barriers(&mut self) {
        while let Some(process) = &mut self.source {
            let consumed = process.watch.consumed();
            let Some(at) = process
                .barriers
                .iter()
                .position(|(_, target)| *target <= consumed)
            else {
                return;
            };
            let (ticket, _) = process.barriers.remove(at);
            self.source_event(source::Event::BarrierPassed(ticket));
        }
    }

    /// A reader carries out an order while users act between its steps.
    fn read_step(&mut self) {
        let Some(process) = &mut self.source else {
            return;
        };
        if process.orders.is_empty() {
            return;
        }
        let (ticket, order) = process.orders.remove(self.rng.below(process.orders.len()));
        let finding = self.carry_out(&order);
        if let Some(process) = &mut self.source {
            process.found.push((ticket, finding));
        }
    }

    fn carry_out(&mut self, order: &Order) -> Finding {
        let now = self.now().wall;
        if self.faults.users_between_steps && self.users().acts_left > 0 {
            let users = Arc::clone(&self.users);
            let mut rng = Rng::new(self.rng.next());
            self.src.interrupt(Some(Box::new(move |disk: &mut Disk| {
                if rng.once_in(8) {
                    users.lock().expect("no panic in users").act(disk);
                }
            })));
        }
        let trouble = self.trouble_of_reader();
        self.src.set_trouble(trouble);
        let process = self.source.as_mut().expect("it was just there");
        let gone = Finding::StreamEnded { whole: false };
        let is_search = matches!(order, Order::List { detail, .. } if *detail == Detail::Links);
        self.searched += u64::from(is_search);
        let finding = match order {
            Order::ReadChunk { stream, span } => {
                process.streams.get(stream).map_or(gone, |stream| {
                    let found = stream.read(&self.src, *span);
                    let next = stream.after(*span, &found);
                    if let Some(next) = next.filter(|_| self.rng.once_in(2)) {
                        stream.read_ahead(&self.src, next);
                    }
                    found
                })
            }
            Order::EndStream {
                stream,
                path,
                unsettled,
            } => process.streams.get(stream).map_or(gone, |stream| {
                end_stream(&self.src, stream.open(), path, *unsettled)
            }),
            order => {
                let next = &mut process.next_stream;
                process.reader.read(&self.src, now, order, &mut || {
                    *next += 1;
                    *next
                })
            }
        };
        self.src.set_trouble(None);
        for open in process.reader.take_opened() {
            process.streams.insert(open.stream, Stream::new(open));
        }
        self.src.interrupt(None);
        self.note_open_reads(order, &finding);
        self.say(|| format!("look {order:?} = {finding:?}"));
        finding
    }

    fn note_open_reads(&self, order: &Order, finding: &Finding) {
        let (Order::Look { dir, names, .. }, Finding::Looked(seen)) = (order, finding) else {
            return;
        };
        for (name, seen) in names.iter().zip(seen) {
            if matches!(
                seen,
                Seen::Is {
                    while_open: true,
                    ..
                } | Seen::Large {
                    while_open: true,
                    ..
                }
            ) {
                self.users().read_while_open.insert(dir.join(&name.name));
            }
        }
    }

    fn note_base(&mut self, message: &ToSink) {
        match message {
            ToSink::Change {
                change: Change::Base { .. },
                ..
            } => self.bases_asked += 1,
            ToSink::Change {
                change: Change::Chunk { kept, .. },
                ..
            } => self.content_kept += kept,
            _ => {}
        }
    }

    fn found_step(&mut self) {
        let Some(process) = &mut self.source else {
            return;
        };
        if process.found.is_empty() {
            return;
        }
        let at = self.rng.below(process.found.len());
        let (ticket, finding) = process.found.remove(at);
        self.source_event(source::Event::Found(ticket, finding));
        self.barriers();
    }

    // ---- actions of the sink -----------------------------------------------------------------------

    fn sink_event(&mut self, event: sink::Event) {
        let now = self.sink_now();
        let mut out = Vec::new();
        let Some(process) = &mut self.sink else {
            return;
        };
        process.engine.handle(now, event, &mut out);
        process.engine.advance(now, &mut out);
        self.sink_actions(out);
    }

    fn sink_actions(&mut self, actions: Vec<sink::Action>) {
        for action in actions {
            let Some(process) = &mut self.sink else {
                return;
            };
            match action {
                sink::Action::Connect { .. } => {
                    process.connect = true;
                    let ids: Vec<u64> = process
                        .command
                        .take()
                        .into_iter()
                        .chain(process.data.drain(..))
                        .collect();
                    for id in ids {
                        if let Some((_, wire)) = self.wires.get_mut(&id) {
                            wire.down.clear();
                            wire.up.push_back(None);
                        }
                    }
                }
                sink::Action::SendCommand(message) => {
                    if let Some((_, wire)) = process.command.and_then(|id| self.wires.get_mut(&id))
                    {
                        wire.up.push_back(Some(wire::encode_command(&message)));
                    }
                }
                sink::Action::SendData(at, message) => {
                    if self.trace {
                        println!("      a: {message:?}");
                    }
                    if let Some((_, wire)) =
                        process.data.get(at).and_then(|id| self.wires.get_mut(id))
                    {
                        wire.up.push_back(Some(wire::encode_to_source(&message)));
                    }
                }
                sink::Action::Apply { number, change, .. } => process.work.push((number, change)),
                sink::Action::FreeStages => process.applier.free_stages(),
                sink::Action::Filter(filter) => process.applier.set_filter(filter),
                sink::Action::Sync { standing, .. } => process.sync = Some(standing),
                sink::Action::ReleaseBrake => process.applier.brake.release(),
                sink::Action::Log { text, .. } => self.say(|| format!("sink: {text}")),
                sink::Action::Exit { .. } => {
                    self.state.end.clean = process.engine.is_settled();
                    self.sink = None;
                    self.close_sink_wires();
                    return;
                }
            }
        }
    }

    fn connect_step(&mut self) {
        let connections = self.faults.data_connections;
        let up = self.source.is_some();
        let Some(process) = self.sink.as_mut().filter(|process| process.connect && up) else {
            return;
        };
        process.connect = false;
        let mut open = |is_command: bool| {
            self.next_wire += 1;
            self.wires
                .insert(self.next_wire, (is_command, Wire::default()));
            self.next_wire
        };
        process.command = Some(open(true));
        process.data = (0..connections).map(|_| open(false)).collect();
        let nonces = process.data.iter().map(|id| id * 7919).collect();
        self.say(|| "connect".to_owned());
        self.sink_event(sink::Event::Connected(nonces));
    }

    fn apply_step(&mut self) {
        let Some(process) = &mut self.sink else {
            return;
        };
        if process.work.is_empty() {
            return;
        }
        let (number, change) = process.work.remove(self.rng.below(process.work.len()));
        self.apply(number, change);
    }

    fn apply(&mut self, number: u64, change: Change) {
        let trouble = self.trouble_of_applier();
        let Some(process) = &mut self.sink else {
            return;
        };
        self.dst.set_trouble(trouble);
        let outcome = process.applier.apply(Lane::Live, change);
        self.dst.set_trouble(None);
        process.applied.push((number, outcome.clone()));
        self.say(|| format!("a{number} = {outcome:?}"));
    }

    fn applied_step(&mut self) {
        let Some(process) = &mut self.sink else {
            return;
        };
        if process.applied.is_empty() {
            return;
        }
        let (number, outcome) = process
            .applied
            .remove(self.rng.below(process.applied.len()));
        self.sink_event(sink::Event::Applied(number, outcome));
    }

    fn sync_step(&mut self) {
        let now = self.sink_now().wall;
        let Some(standing) = self.sink.as_mut().and_then(|process| process.sync.take()) else {
            return;
        };
        if self.sync_fails() {
            return;
        }
        self.dst.disk().sync();
        self.state.standing = standing;
        let distrusted = self.state.end.synced(now);
        if let (Some(process), Some(times)) = (&self.sink, distrusted) {
            process.applier.set_distrust(times);
        }
        self.say(|| format!("sync, durable {}", self.state.standing.durable));
        self.sink_event(sink::Event::Synced {
            ok: true,
            took_ms: 1,
        });
    }

    // ---- the network -------------------------------------------------------------------------------

    fn deliver_step(&mut self) {
        let (source, sink) = (!self.is_frozen(Side::Source), !self.is_frozen(Side::Sink));
        let busy: Vec<(u64, bool)> = self
            .wires
            .iter()
            .filter(|_| !self.is_stalled())
            .flat_map(|(&id, (_, wire))| {
                let up = (!wire.up.is_empty()).then_some((id, true));
                let down = (!wire.down.is_empty()).then_some((id, false));
                let (up, down) = (up.filter(|_| source), down.filter(|_| sink));
                [up, down].into_iter().flatten()
            })
            .collect();
        if busy.is_empty() {
            return;
        }
        let (id, up) = busy[self.rng.below(busy.len())];
        if up {
            self.deliver_up(id)
        } else {
            self.deliver_down(id)
        }
        let (_, wire) = &self.wires[&id];
        let ours = self
            .sink
            .as_ref()
            .is_some_and(|p| p.command == Some(id) || p.data.contains(&id));
        if wire.up.is_empty() && wire.down.is_empty() && !ours {
            self.wires.remove(&id);
        }
    }

    fn deliver_up(&mut self, id: u64) {
        let (is_command, wire) = self.wires.get_mut(&id).expect("a known wire");
        let (is_command, packet) = (*is_command, wire.up.pop_front().flatten());
        let peer = Peer(id);
        let event = match (is_command, packet) {
            (true, Some(frames)) => source::Event::Command(
                peer,
                wire::decode_command(&frames).expect("our own encoding"),
            ),
            (false, Some(frames)) => source::Event::Data(
                peer,
                wire::decode_to_source(&frames).expect("our own encoding"),
            ),
            (true, None) => source::Event::CommandGone(peer),
            (false, None) => source::Event::DataGone(peer),
        };
        self.source_event(event);
    }

    fn deliver_down(&mut self, id: u64) {
        let (_, wire) = self.wires.get_mut(&id).expect("a known wire");
        let packet = wire.down.pop_front().flatten();
        let Some(process) = &self.sink else { return };
        let event = if process.command == Some(id) {
            match packet {
                Some(frames) => {
                    sink::Event::Command(wire::decode_command(&frames).expect("our own encoding"))
                }
                None => sink::Event::Lost("the command connection is lost".to_owned()),
            }
        } else if let Some(at) = process.data.iter().position(|data| *data == id) {
            match packet {
                Some(frames) => {
                    sink::Event::Data(at, wire::decode_to_sink(&frames).expect("our own encoding"))
                }
                None => sink::Event::Lost("a data connection is lost".to_owned()),
            }
        } else {
            return;
        };
        self.sink_event(event);
    }

    // ---- the operator ------------------------------------------------------------------------------

    fn ask_flush(&mut self) {
        if self.flush.is_some() || self.source.is_none() {
            return;
        }
        self.next_request += 1;
        self.users().touched.clear();
        let mut files = BTreeMap::new();
        {
            let disk = self.src.disk();
            for (path, ino) in disk.paths() {
                let is_file = disk.stat(ino).is_ok_and(|stat| stat.kind == Kind::File);
                if is_file && !self.faults.filter.excludes(&path, false) {
                    files.insert(path, disk.content(ino).expect("a listed inode").to_vec());
                }
            }
        }
        self.flush = Some((self.next_request, files));
        self.say(|| "flush".to_owned());
        let request = Request::Flush { timeout_ms: 30_000 };
        let message = Command::Request {
            id: self.next_request,
            request,
        };
        self.source_event(source::Event::Command(Peer(OPERATOR), message));
        self.barriers();
    }

    fn operator_hears(&mut self, message: Command) {
        let Command::Reply {
            id,
            reply: Reply::Flush(result),
        } = message
        else {
            return;
        };
        self.say(|| format!("flush answered: {result:?}"));
        self.flushed = Some((result.complete, result.problems));
        self.flush_lost = result.limits.iter().filter_map(Limit::loss).collect();
        let Some((asked, files)) = self.flush.take() else {
            return;
        };
        if asked != id || !result.complete || result.problems > 0 {
            return;
        }
        let touched = self.users().touched.clone();
        let mut after_cut = self.dst.disk().clone();
        // What is durable is there even if the power goes now.
        after_cut.power_cut(|| false);
        for (path, content) in files {
            if touched
                .iter()
                .any(|other| other.covers(&path) || path.covers(other))
            {
                continue;
            }
            let there = after_cut
                .find(&path)
                .and_then(|ino| after_cut.content(ino).map(<[u8]>::to_vec));
            if there.as_ref().ok() != Some(&content) {
                self.failure = Some(format!(
                    "I9: flush lied: {path} is {there:?}, should be {content:?}"
                ));
            }
        }
    }

    // ---- judging -----------------------------------------------------------------------------------

    /// I4: no more files are held open than both lanes may stream. Those of a look count when it is told: if it was
    /// made for a sink that has left meanwhile, they are closed then.
    fn judge_streams(&self) -> Result<(), String> {
        let Some(process) = &self.source else {
            return Ok(());
        };
        let untold = process.found.iter().map(|(_, finding)| opened_by(finding));
        let open = process.streams.len() - untold.sum::<usize>();
        if open > 2 * STREAMS_MAX {
            return Err(format!("I4: {open} files are open for streaming"));
        }
        Ok(())
    }

    /// I2: every file of the sink is one whole state that its name ever had.
    fn judge_files(&mut self) -> Result<(), String> {
        let disk = self.dst.disk();
        if disk.changes == self.dst_seen {
            return Ok(());
        }
        self.dst_seen = disk.changes;
        self.planted.judge(&disk, &self.faults.filter)?;
        let users = self.users.lock().expect("no panic in users");
        let paths = disk.paths();
        let open: Vec<_> = paths
            .iter()
            .filter(|(path, _)| users.read_while_open.contains(path))
            .map(|(_, ino)| *ino)
            .collect();
        for (path, ino) in paths {
            let stat = disk.stat(ino).map_err(|e| e.to_string())?;
            if stat.kind != Kind::File {
                continue;
            }
            let content = disk.content(ino).map_err(|e| e.to_string())?.to_vec();
            // A power cut empties files that were not durable; that they heal is judged at the end.
            let emptied = self.power_was_cut && content.iter().all(|&byte| byte == 0);
            if emptied || self.planted.holds(&path) || open.contains(&ino) {
                continue;
            }
            let known = users
                .history
                .get(&path)
                .is_some_and(|states| states.contains(&(content.clone(), stat.mode)));
            if !known {
                return Err(format!(
                    "I2: {path} is {content:?} with mode {:o}, which it never was",
                    stat.mode
                ));
            }
        }
        Ok(())
    }

    /// What the target cannot hold, users do not see there.
    pub fn note_limits(&self) {
        let limits = self.dst.disk().limits.clone();
        self.users().on_target = View::new(limits, None);
    }

    /// I1: the trees are equal, the root included.
    pub fn difference(&self) -> Option<String> {
        let (src, dst) = (self.src.disk(), self.dst.disk());
        // Both look as the target can hold them.
        let on_target = View::new(dst.limits.clone(), None);
        let keeps_links = on_target.keeps(LimitKind::HardLinks);
        let keeps_holes = on_target.keeps(LimitKind::Holes);
        let view = |disk: &Disk| -> BTreeMap<RelPath, String> {
            let takes_part = |path: &RelPath, ino| {
                let is_dir = disk.stat(ino).is_ok_and(|stat| stat.kind == Kind::Dir);
                !self.faults.filter.excludes(path, is_dir)
            };
            let mut paths = disk.paths();
            paths.retain(|(path, ino)| takes_part(path, *ino));
            let mut first_names = BTreeMap::new();
            for (path, ino) in &paths {
                first_names.entry(*ino).or_insert_with(|| path.clone());
            }
            paths
                .into_iter()
                .map(|(path, ino)| {
                    let stat = disk.stat(ino).expect("a listed inode");
                    let xattrs = disk.xattrs(ino).expect("a listed inode");
                    let content = disk.content(ino).expect("a listed inode");
                    let mut meta = stat.metadata(xattrs);
                    on_target.show(None, &mut meta);
                    let group = keeps_links.then(|| &first_names[&ino]);
                    let data = keeps_holes.then(|| disk.data(ino));
                    let text = format!("{meta:?} {content:?} as {group:?} with {data:?}");
                    (path, text)
                })
                .collect()
        };
        let (src, mut dst) = (view(&src), view(&dst));
        // A directory that only holds what is excluded stays.
        dst.retain(|path, _| src.contains_key(path) || !self.planted.lies_below(path));
        let paths = src.keys().chain(dst.keys());
        let differ = paths
            .into_iter()
            .find(|path| src.get(path) != dst.get(path))?;
        Some(format!(
            "{differ}: source {:?}, sink {:?}",
            src.get(differ),
            dst.get(differ)
        ))
    }

    // ---- time --------------------------------------------------------------------------------------

    fn pass_time(&mut self, ms: u64) {
        self.ms += ms;
        self.set_clocks();
        if !self.is_frozen(Side::Source) {
            self.source_event(source::Event::Tick);
            self.barriers();
        }
        if !self.is_frozen(Side::Sink) {
            self.sink_event(sink::Event::Tick);
        }
        let now = self.now();
        if let Some(process) = &mut self.source {
            self.state.carryover.extend(process.engine.carryover(now));
        }
    }

    /// To the next deadline, when nothing else is left to do.
    fn next_deadline(&mut self) {
        let source = self
            .source
            .as_ref()
            .filter(|_| !self.is_frozen(Side::Source))
            .map_or(u64::MAX, |process| process.engine.deadline());
        let sink = self
            .sink
            .as_ref()
            .filter(|_| !self.is_frozen(Side::Sink))
            .map_or(u64::MAX, |process| process.engine.deadline());
        let next = source.min(sink).min(self.ms + 5_000);
        self.pass_time(next.saturating_sub(self.ms).max(1));
    }

    // ---- running -----------------------------------------------------------------------------------

    fn idle(&self) -> bool {
        let running = |side| !self.is_frozen(side);
        let source = self.source.as_ref().filter(|_| running(Side::Source));
        let source = source.is_none_or(|p| {
            p.orders.is_empty() && p.found.is_empty() && p.watch.waiting().is_ok_and(|n| n == 0)
        });
        let sink = self.sink.as_ref().filter(|_| running(Side::Sink));
        let sink = sink.is_none_or(|p| {
            p.work.is_empty() && p.applied.is_empty() && p.sync.is_none() && !p.connect
        });
        let wires = self.wires.values().all(|(_, wire)| {
            let up = wire.up.is_empty() || !running(Side::Source);
            let down = wire.down.is_empty() || !running(Side::Sink);
            (up && down) || self.is_stalled()
        });
        source && sink && wires
    }

    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if !self.healed {
            self.strike();
        } else {
            self.start_what_has_ended();
        }
        match self.rng.below(11) {
            0 if !self.healed && (!self.faults.calm || self.idle() || self.rng.once_in(30)) => {
                self.user();
            }
            1..=4 if self.is_frozen(Side::Source) => {}
            1 | 2 => self.watch_step(),
            3 => self.read_step(),
            4 => self.found_step(),
            5 | 6 => self.deliver_step(),
            7..=9 if self.is_frozen(Side::Sink) => {}
            7 => self.apply_step(),
            8 => self.applied_step(),
            9 => self.sync_step(),
            _ if self.idle() => self.next_deadline(),
            _ => {
                let ms = self.rng.below(30) as u64;
                self.pass_time(ms);
            }
        }
        if !self.is_frozen(Side::Sink) {
            self.connect_step();
        }
        self.digest =
            self.digest.rotate_left(5) ^ self.dst.disk().changes ^ self.rng.clone().next();
        self.judge_streams()?;
        match self.failure.take() {
            Some(why) => Err(why),
            None => self.judge_files(),
        }
    }

    /// A process that was about to end when all healed.
    fn start_what_has_ended(&mut self) {
        if self.sink.is_none() && self.ends.remove(&Side::Sink) {
            self.start_sink();
        }
        if self.source.is_none() && self.ends.remove(&Side::Source) {
            self.start_source();
        }
    }

    fn strike(&mut self) {
        let faults = self.faults.clone();
        let mut hits = |often: usize| often > 0 && self.rng.once_in(often * 5);
        let (cut, crash, power, source) = (
            hits(faults.connection_cut),
            hits(faults.sink_crash),
            hits(faults.sink_power_cut),
            hits(faults.source_crash),
        );
        let (full, unreadable, flush) = (
            hits(faults.sink_full),
            hits(faults.unreadable),
            hits(faults.flush),
        );
        let (stop, pause) = (hits(faults.sink_stop), hits(faults.pause));
        let (source_stop, root_lost) = (hits(faults.source_stop), hits(faults.root_lost));
        let back = self.rng.once_in(20);
        if cut {
            self.cut();
        }
        if (crash || power) && self.sink.is_some() {
            self.crash_sink(power);
        } else if self.sink.is_none() && back {
            self.start_sink();
        }
        if source && self.source.is_some() {
            self.crash_source();
        } else if self.source.is_none() && back {
            self.start_source();
        }
        if stop && self.sink.is_some() && !self.is_frozen(Side::Sink) {
            self.say(|| "STOP of the sink".to_owned());
            self.ends.insert(Side::Sink);
            self.sink_event(sink::Event::Stop);
        }
        if pause && self.source.is_some() && !self.is_frozen(Side::Source) {
            match self.rng.once_in(2) {
                true => self.pause(),
                false => self.resume(),
            }
        }
        if source_stop && !self.is_frozen(Side::Source) {
            self.say(|| "STOP of the source".to_owned());
            // Its sinks end with it.
            self.ends.extend([Side::Source, Side::Sink]);
            self.source_event(source::Event::Stop);
        }
        if root_lost && !self.is_frozen(Side::Source) {
            let why = "the root is empty".to_owned();
            self.source_event(source::Event::RootLost(why));
        }
        if full {
            self.say(|| "FULL".to_owned());
            self.dst.disk().bytes_max = self.rng.below(40);
        }
        if unreadable {
            let files: Vec<_> = self.src.disk().paths();
            let (path, ino) = files[self.rng.below(files.len())].clone();
            let on = self.rng.once_in(2);
            self.say(|| format!("UNREADABLE {path}: {on}"));
            self.src.disk().set_unreadable(ino, on);
        }
        if flush && !self.is_frozen(Side::Source) {
            self.ask_flush();
        }
        self.strike_troubles();
        if faults.planted > 0 && self.rng.once_in(faults.planted * 5) {
            self.plant();
        }
    }

    /// A stranger puts something excluded into some directory of the target.
    fn plant(&mut self) {
        let mut rng = self.rng.clone();
        let mut disk = self.dst.disk();
        let planted = self.planted.plant(&mut disk, &mut rng, &self.faults);
        drop(disk);
        self.rng = rng;
        if let Some(path) = planted {
            self.say(|| format!("PLANTED {path}"));
        }
    }

    /// Where something excluded stands in the way of an entry of the source, it is taken away.
    pub fn uproot(&mut self) {
        let (src, mut dst) = (self.src.disk(), self.dst.disk());
        self.planted.uproot(&src, &mut dst);
    }

    /// All faults end; both processes run.
    pub fn heal(&mut self) {
        self.healed = true;
        self.say(|| "HEALED".to_owned());
        self.end_troubles();
        self.users().acts_left = 0;
        {
            let mut users = self.users.lock().expect("no panic in users");
            let mut disk = self.src.disk();
            users.finish_writing(&mut disk);
            for (_, ino) in disk.paths() {
                disk.set_unreadable(ino, false);
            }
            disk.watches_max = usize::MAX;
        }
        self.dst.disk().bytes_max = usize::MAX;
        self.uproot();
        if self.source.is_none() {
            self.start_source();
        }
        if self.sink.is_none() {
            self.start_sink();
        }
        self.resume();
        self.limit(RateLimits::default());
    }

    fn converged(&self) -> bool {
        let Some(process) = &self.source else {
            return false;
        };
        let is_equal = if self.faults.poor_target || self.faults.names_apart {
            let sinks = process.engine.status(self.now()).sinks;
            !sinks.is_empty() && sinks.iter().all(|sink| sink.settled)
        } else {
            process.engine.converged()
        };
        is_equal && self.idle()
    }

    /// Runs until everything has healed and both trees are equal. Returns a digest of the history.
    pub fn run(mut self) -> Result<u64, String> {
        let pace = if self.faults.calm { 200 } else { 40 };
        let restless = self.faults.user_acts as u64 * pace;
        for _ in 0..restless {
            self.step()?;
            if self.users().acts_left == 0 && self.rng.once_in(50) {
                break;
            }
        }
        self.heal();
        self.settle()?;
        Ok(self.digest)
    }

    /// Runs until osync says that the trees are equal, and judges that.
    pub fn settle(&mut self) -> Result<(), String> {
        let deadline = self.steps + HEALED_STEPS_MAX;
        while !self.converged() {
            self.step()?;
            if self.steps > deadline {
                let status = self.source.as_ref().map(|p| p.engine.status(self.now()));
                let queue = self
                    .source
                    .as_ref()
                    .map(|p| p.engine.queue_report(self.now()));
                return Err(format!(
                    "not converged after {HEALED_STEPS_MAX} steps; difference: {:?}; {status:?}; {queue:?}",
                    self.difference()
                ));
            }
        }
        match self.difference() {
            None => Ok(()),
            Some(difference) => Err(format!("I1, I9: said to be equal, but {difference}")),
        }
    }
}

/// Files that a look opened for streaming.
fn opened_by(finding: &Finding) -> usize {
    let Finding::Looked(seen) = finding else {
        return 0;
    };
    let large = seen
        .iter()
        .filter(|seen| matches!(seen, Seen::Large { .. }));
    large.count()
}
