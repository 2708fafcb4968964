//! Single steps, for histories that a scenario tells in its own order.
//!
//! Everything here panics where the history cannot go on, so that a scenario whose interleaving has
//! become impossible fails instead of testing nothing.

use osync::engine::replica::Replica;
use osync::engine::work::{Detail, Finding, Order, Seen};
use osync::engine::{Ticket, sink, source};
use osync::fs::memory::{Disk, Ino};
use osync::report::{RateLimits, SinkQueue, SinkStatus};
use osync::sink::applier::Applier;
use osync::sink::brake::Brake;
use osync::source::watch::Watch;
use osync::tree::{Kind, Name, RelPath, Time};
use osync::wire::message::{Change, Command, Outcome, Refusal, Request};
use osync::wire::{self, Frames};

use super::{OPERATOR, State, Wire, World};
use crate::faults::Faults;
use crate::users::Users;

/// Steps in which a condition of a scenario must come true.
const PATIENCE_STEPS: u64 = 20_000;

/// A path from text.
pub fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).expect("a path")
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

fn place(disk: &Disk, text: &str) -> (Ino, Name) {
    let (dir, name) = path(text).split().expect("a path below the root");
    (disk.find(&dir).expect("the directory is there"), name)
}

/// Makes a directory as any user of this disk would.
pub fn mkdir(disk: &mut Disk, at: &str) {
    let (dir, name) = place(disk, at);
    disk.make_dir(dir, &name).expect("a free name");
}

/// Gives an entry a further name as any user of this disk would.
pub fn ln(disk: &mut Disk, from: &str, to: &str) {
    let ino = disk.find(&path(from)).expect("it is there");
    let (dir, name) = place(disk, to);
    disk.link(ino, dir, &name).expect("a free name");
}

/// True if both names mean the same inode.
pub fn same_inode(disk: &Disk, a: &str, b: &str) -> bool {
    let ino = |at| disk.find(&path(at)).expect("it is there");
    ino(a) == ino(b)
}

/// Writes a whole file as any user of this disk would.
pub fn write(disk: &mut Disk, at: &str, content: &[u8]) {
    let (dir, name) = place(disk, at);
    let ino = match disk.lookup(dir, &name) {
        Ok(ino) => ino,
        Err(_) => disk
            .create(dir, &name, Kind::File, &[])
            .expect("a free name"),
    };
    disk.truncate(ino, 0).expect("a file");
    disk.write_at(ino, 0, content).expect("room");
}

/// A look that was carried out and whose result is still in the reader's hand.
#[must_use]
pub struct Held(Ticket, Finding);

/// A change that an applier holds and has not applied yet.
#[must_use]
pub struct Applying(u64, Change);

fn is_about(order: &Order, at: &RelPath) -> bool {
    match order {
        Order::Look { dir, names, .. } => names.iter().any(|look| dir.join(&look.name) == *at),
        Order::LookDir { dir } => dir == at,
        Order::CheckRename { from, to } => from == at || to == at,
        _ => false,
    }
}

fn names(change: &Change, at: &RelPath) -> bool {
    match change {
        Change::Entries { dir, entries } => entries.iter().any(|e| dir.join(&e.name) == *at),
        Change::Publish { path, .. } => path == at,
        _ => false,
    }
}

impl World {
    /// A world where nothing happens but what the scenario does.
    pub fn quiet() -> Self {
        Self::quiet_with(|_| {})
    }

    /// The same with other limits.
    pub fn quiet_with(set: impl FnOnce(&mut Faults)) -> Self {
        Self::prepared(set, |_, _| {})
    }

    /// The same where both trees hold something before osync is started.
    pub fn prepared(
        set: impl FnOnce(&mut Faults),
        prepare: impl FnOnce(&mut Disk, &mut Disk),
    ) -> Self {
        let mut faults = Faults::none(0);
        (faults.flush, faults.users_between_steps) = (0, false);
        set(&mut faults);
        let away = std::mem::replace(&mut faults.sinks_away_at_start, true);
        let trace = std::env::var_os("OSYNC_SIM_TRACE").is_some();
        let mut world = Self::new(1, faults, trace);
        // Faults strike only where the scenario says so.
        world.healed = true;
        world.source = None;
        prepare(&mut world.src.disk(), &mut world.dst.disk());
        world.note_limits();
        world.users().record(&world.src.disk());
        world.users().record(&world.dst.disk());
        world.src.disk().forget_watches();
        world.dst.disk().sync();
        world.wait(10_000);
        world.start_source();
        if !away {
            world.start_sink();
        }
        world
    }

    // ---- users -------------------------------------------------------------------------------------

    /// A user does something to this path of the source.
    pub fn user_does(&self, at: &str, act: impl FnOnce(&mut Disk)) {
        let mut disk = self.src.disk();
        disk.now.nanos += 1;
        act(&mut disk);
        let mut users = self.users();
        users.touched.push(path(at));
        users.record(&disk);
    }

    /// What users did is not reported: events that wait are dropped.
    pub fn drop_events(&mut self) {
        let process = self.source.as_mut().expect("a source");
        process
            .watch
            .read(&mut Vec::new(), usize::MAX)
            .expect("memory");
    }

    /// Audits that were completed, and what they found.
    pub fn audited(&self) -> (u64, u64) {
        let process = self.source.as_ref().expect("a source");
        let audit = process.engine.status(self.now()).audit;
        (audit.completed, audit.found)
    }

    pub fn mkdir(&self, at: &str) {
        self.user_does(at, |disk| mkdir(disk, at));
    }

    pub fn write(&self, at: &str, content: &str) {
        self.user_does(at, |disk| write(disk, at, content.as_bytes()));
    }

    pub fn ln(&self, from: &str, to: &str) {
        self.user_does(to, |disk| ln(disk, from, to));
    }

    /// The next changes of the inode are told under this name.
    pub fn come_by(&self, at: &str) {
        let mut disk = self.src.disk();
        let (dir, name) = place(&disk, at);
        disk.through(dir, &name).expect("it is there");
    }

    /// Other content of the same size, with the time of the old.
    pub fn write_unseen(&self, at: &str, content: &str) {
        self.user_does(at, |disk| {
            let ino = disk.find(&path(at)).expect("it is there");
            let stat = disk.stat(ino).expect("it is there");
            assert_eq!(stat.size, content.len() as u64, "the size must stay");
            let meta = stat.metadata(disk.xattrs(ino).expect("it is there"));
            disk.write_at(ino, 0, content.as_bytes()).expect("room");
            disk.set_meta(ino, &meta).expect("it is there");
        });
    }

    /// Sets the time of the last change of content to what every other file so treated has.
    pub fn set_common_time(&self, at: &str) {
        self.user_does(at, |disk| {
            let ino = disk.find(&path(at)).expect("it is there");
            let stat = disk.stat(ino).expect("it is there");
            let mut meta = stat.metadata(disk.xattrs(ino).expect("it is there"));
            meta.mtime = Time { secs: 1, nanos: 0 };
            disk.set_meta(ino, &meta).expect("it is there");
        });
    }

    pub fn chmod(&self, at: &str, mode: u32) {
        self.user_does(at, |disk| {
            let ino = disk.find(&path(at)).expect("it is there");
            let stat = disk.stat(ino).expect("it is there");
            let mut meta = stat.metadata(disk.xattrs(ino).expect("it is there"));
            meta.mode = mode;
            disk.set_meta(ino, &meta).expect("it is there");
        });
    }

    pub fn rm(&self, at: &str) {
        self.user_does(at, |disk| {
            let (dir, name) = place(disk, at);
            disk.unlink(dir, &name).expect("a file");
        });
    }

    pub fn rm_r(&self, at: &str) {
        let ino = self.src.disk().find(&path(at)).expect("it is there");
        let children = self.src.disk().children(ino).expect("a directory");
        for (child, kind) in children {
            let below = path(at).join(&child);
            let below = std::str::from_utf8(below.as_bytes()).expect("letters");
            match kind {
                Kind::Dir => self.rm_r(below),
                _ => self.rm(below),
            }
        }
        self.user_does(at, |disk| {
            let (dir, name) = place(disk, at);
            disk.remove_dir(dir, &name).expect("an empty directory");
        });
    }

    /// Renames. What is below a directory may be seen under its new name as it was under the old one.
    pub fn mv(&self, from: &str, to: &str) {
        self.user_does(from, |disk| {
            let (from_dir, from_name) = place(disk, from);
            let (to_dir, to_name) = place(disk, to);
            disk.rename(from_dir, &from_name, to_dir, &to_name)
                .expect("a rename that the kernel allows");
        });
        let mut users = self.users();
        users.touched.push(path(to));
        users.moved(&path(from), &path(to));
    }

    pub fn readable(&self, at: &str, readable: bool) {
        let mut disk = self.src.disk();
        let ino = disk.find(&path(at)).expect("it is there");
        disk.set_unreadable(ino, !readable);
    }

    // ---- the source --------------------------------------------------------------------------------

    /// The source reads one event.
    pub fn hear_one(&mut self) {
        assert!(self.src.disk().events_waiting() > 0, "no event waits");
        self.watch_step();
    }

    /// The source reads all events.
    pub fn hear(&mut self) {
        while self.src.disk().events_waiting() > 0 {
            self.watch_step();
        }
        self.watch_step();
    }

    /// True if readers were asked to look at this path.
    pub fn asked(&self, at: &str) -> bool {
        let at = path(at);
        let process = self.source.as_ref().expect("a source");
        process.orders.iter().any(|(_, order)| is_about(order, &at))
    }

    /// True if a search for names of linked inodes is to list this directory.
    pub fn searches(&self, at: &str) -> bool {
        self.is_to_list(at, |_, detail| detail == Detail::Links)
    }

    /// True if the walk of a sink is to list this directory.
    pub fn lists(&self, at: &str) -> bool {
        self.is_to_list(at, |ticket, detail| {
            Replica::key_of(ticket) > 0 && detail != Detail::Links
        })
    }

    fn is_to_list(&self, at: &str, which: impl Fn(Ticket, Detail) -> bool) -> bool {
        let at = path(at);
        let process = self.source.as_ref().expect("a source");
        process.orders.iter().any(|(ticket, order)| {
            matches!(order, Order::List { dir, detail, .. } if *dir == at && which(*ticket, *detail))
        })
    }

    fn carry_out_where(&mut self, what: &str, which: impl Fn(&Ticket, &Order) -> bool) -> Held {
        let process = self.source.as_mut().expect("a source");
        let found = process.orders.iter().position(|(t, order)| which(t, order));
        let at = found.unwrap_or_else(|| panic!("nobody asked for {what}: {:?}", process.orders));
        let (ticket, order) = process.orders.remove(at);
        let finding = self.carry_out(&order);
        Held(ticket, finding)
    }

    /// A reader looks at this path and holds the result.
    pub fn look(&mut self, at: &str) -> Held {
        let path = path(at);
        self.carry_out_where(at, |_, order| is_about(order, &path))
    }

    /// A reader lists this directory for the walk of a sink and holds the result.
    pub fn list(&mut self, at: &str) -> Held {
        let path = path(at);
        self.carry_out_where(at, |ticket, order| {
            let of_a_sink = Replica::key_of(*ticket) > 0;
            of_a_sink && matches!(order, Order::List { dir, .. } if *dir == path)
        })
    }

    /// The reader's result reaches the engine.
    pub fn tell(&mut self, held: Held) {
        self.source_event(source::Event::Found(held.0, held.1));
        self.barriers();
    }

    /// The same, but the look had no room for more names than so many.
    pub fn tell_first(&mut self, held: Held, names: usize) {
        let Finding::Looked(mut seen) = held.1 else {
            panic!("not a look: {:?}", held.1);
        };
        seen.iter_mut()
            .skip(names)
            .for_each(|seen| *seen = Seen::Unread);
        self.tell(Held(held.0, Finding::Looked(seen)));
    }

    /// Readers do all that they were asked for, and tell it.
    pub fn read_all(&mut self) {
        loop {
            let Some(process) = &self.source else { return };
            if !process.found.is_empty() {
                self.found_step();
            } else if !process.orders.is_empty() {
                self.read_step();
            } else {
                return;
            }
        }
    }

    fn request(&mut self, request: Request) {
        let id = 1_000_000 + self.next_request;
        let message = Command::Request { id, request };
        self.source_event(source::Event::Command(
            osync::channel::Peer(OPERATOR),
            message,
        ));
    }

    /// Events are taken in, nothing is handed out.
    pub fn pause(&mut self) {
        self.request(Request::Pause);
    }

    pub fn resume(&mut self) {
        self.request(Request::Resume { accept: true });
    }

    /// From now on the backlog may use so much in a second.
    pub fn limit(&mut self, limits: RateLimits) {
        self.say(|| format!("LIMIT {limits:?}"));
        self.request(Request::Limit(limits));
    }

    pub fn rescan(&mut self, at: &str) {
        let path = path(at);
        self.request(Request::Rescan { path });
    }

    pub fn enqueue(&mut self, paths: &[&str]) {
        let paths = paths.iter().map(|at| path(at)).collect();
        self.request(Request::Enqueue { paths });
    }

    pub fn flush(&mut self) {
        self.flushed = None;
        self.ask_flush();
    }

    /// What the answered flush said that the target cannot hold.
    pub fn flush_lost(&self) -> &[String] {
        &self.flush_lost
    }

    /// Whether the last flush was complete, and with how many problems; `None` until it is answered.
    pub fn flushed(&self) -> Option<(bool, u64)> {
        self.flushed
    }

    /// A directory is watched at last, by whatever came by.
    pub fn bind(&mut self, at: &str) {
        let path = path(at);
        let process = self.source.as_mut().expect("a source");
        let bound = process
            .watch
            .bind(&path)
            .map_err(|e| e.raw_os_error().unwrap_or(0));
        self.source_event(source::Event::Bound(path, bound));
    }

    /// From its next start on, the source has these rules.
    pub fn set_filter(&mut self, rules: &str) {
        self.faults.filter = crate::faults::filter(rules);
    }

    /// How many directories the source watches.
    pub fn watches(&self) -> u64 {
        let process = self.source.as_ref().expect("a source");
        process.engine.queue_report(self.now()).events.watched_dirs
    }

    /// When the source wakes up by itself.
    pub fn deadline_of_source(&self) -> u64 {
        let process = self.source.as_ref().expect("a source");
        process.engine.deadline()
    }

    /// The operation of the first problem.
    pub fn first_problem(&self) -> Option<(RelPath, String, i32)> {
        let process = self.source.as_ref().expect("a source");
        let report = process.engine.problems_report(self.now());
        let first = report.problems.into_iter().next()?;
        Some((first.path, first.operation, first.errno))
    }

    /// Directories that the sink reports to have kept.
    pub fn kept_dirs(&self) -> u64 {
        let process = self.source.as_ref().expect("a source");
        let report = process.engine.transfer_report(self.now());
        report.sinks.iter().map(|sink| sink.kept_dirs).sum()
    }

    pub fn problems(&self) -> u64 {
        let process = self.source.as_ref().expect("a source");
        process.engine.problems_report(self.now()).total
    }

    /// Entries that wait, and entries that were sent and are not durable.
    pub fn load(&self) -> (u64, u64) {
        let process = self.source.as_ref().expect("a source");
        let report = process.engine.queue_report(self.now());
        let lanes = || {
            report
                .sinks
                .iter()
                .flat_map(|sink| [&sink.live, &sink.backlog])
        };
        let waiting = lanes().map(|lane| lane.waiting_entries).sum();
        (waiting, lanes().map(|lane| lane.in_flight_entries).sum())
    }

    /// The only sink's part of the queue report, if one is known.
    fn queue_of_sink(&self) -> Option<SinkQueue> {
        let process = self.source.as_ref().expect("a source");
        process.engine.queue_report(self.now()).sinks.pop()
    }

    /// Rescans owed to the only sink and not begun.
    pub fn rescans_owed(&self) -> usize {
        self.queue_of_sink()
            .map_or(0, |sink| sink.rescans_owed as usize)
    }

    /// Directories that the walks for the sink know of and have not done.
    pub fn dirs_pending(&self) -> usize {
        self.queue_of_sink()
            .map_or(0, |sink| sink.dirs_pending as usize)
    }

    /// Files that are named as never settling.
    pub fn never_settling(&self) -> usize {
        self.queue_of_sink()
            .map_or(0, |sink| sink.never_settling.len())
    }

    /// Files that are held open for streaming.
    pub fn streams(&self) -> usize {
        self.source.as_ref().map_or(0, |p| p.streams.len())
    }

    /// The target holds all that it can, as far as the source says, and nothing is on its way.
    pub fn says_settled(&self) -> bool {
        self.sink_status().is_some_and(|sink| sink.settled) && self.idle()
    }

    /// What the source says of its only sink, once it has registered.
    pub fn sink_status(&self) -> Option<SinkStatus> {
        let process = self.source.as_ref().expect("a source");
        let mut status = process.engine.status(self.now());
        status.sinks.pop()
    }

    /// Messages sent in this session.
    pub fn sent(&self) -> u64 {
        let process = self.source.as_ref().expect("a source");
        process.engine.transfer_report(self.now()).sinks[0].sent_mark
    }

    pub fn says_converged(&self) -> bool {
        self.converged()
    }

    // ---- network and sink --------------------------------------------------------------------------

    fn waits_on_wire(&self, up: bool) -> Option<u64> {
        self.wires.iter().find_map(|(&id, (_, wire))| {
            let queue = if up { &wire.up } else { &wire.down };
            (!queue.is_empty()).then_some(id)
        })
    }

    /// All that was sent to the sink arrives.
    pub fn ship(&mut self) {
        while let Some(id) = self.waits_on_wire(false) {
            self.deliver_down(id);
        }
    }

    /// All that was sent to the source arrives.
    pub fn answer(&mut self) {
        while let Some(id) = self.waits_on_wire(true) {
            self.deliver_up(id);
            self.barriers();
        }
    }

    /// An applier takes a change that names this path, and has not applied it yet.
    pub fn take_work(&mut self, at: &str) -> Applying {
        let at = path(at);
        let process = self.sink.as_mut().expect("a sink");
        let place = process
            .work
            .iter()
            .position(|(_, change)| names(change, &at));
        let place = place.unwrap_or_else(|| panic!("no change of {at}: {:?}", process.work));
        let (number, change) = process.work.remove(place);
        Applying(number, change)
    }

    pub fn has_work(&self, at: &str) -> bool {
        let process = self.sink.as_ref().expect("a sink");
        process
            .work
            .iter()
            .any(|(_, change)| names(change, &path(at)))
    }

    fn take_any_work(&mut self) -> Option<Applying> {
        let (number, change) = self.sink.as_mut()?.work.pop()?;
        Some(Applying(number, change))
    }

    pub fn apply_now(&mut self, held: Applying) {
        self.apply(held.0, held.1);
        self.tell_outcomes();
    }

    /// The applier could not do it.
    pub fn refuse(&mut self, held: &Applying, why: Refusal) {
        let refused = vec![(0, why)];
        let outcome = Outcome {
            refused,
            ..Outcome::default()
        };
        self.sink_event(sink::Event::Applied(held.0, outcome));
    }

    fn tell_outcomes(&mut self) {
        while self.sink.as_ref().is_some_and(|p| !p.applied.is_empty()) {
            self.applied_step();
        }
    }

    /// All that has arrived at the sink is applied.
    pub fn apply_all(&mut self) {
        self.tell_outcomes();
        while self.sink.as_ref().is_some_and(|p| !p.work.is_empty()) {
            self.apply_step();
            self.tell_outcomes();
            self.judge_files().expect("I2 holds");
        }
    }

    /// The sink registers; no reader does anything meanwhile.
    pub fn register(&mut self) {
        while !self.sink_takes_changes() {
            self.connect_step();
            self.ship();
            self.sync();
            self.answer();
            self.wait(20);
        }
    }

    /// The sink registers as far as its part goes. Its success is `heard`, and then nothing of the answer, or
    /// it is not.
    pub fn register_unheard(&mut self, heard: bool) {
        let is_success = |packet: &Option<Frames>| {
            packet.as_ref().is_some_and(|frames| {
                matches!(
                    wire::decode_command(frames),
                    Ok(Command::RegistrationSuccess { .. })
                )
            })
        };
        for _ in 0..PATIENCE_STEPS {
            let told = |(_, (is_command, wire)): (&u64, &(bool, Wire))| {
                *is_command && wire.up.iter().any(is_success)
            };
            if self.wires.iter().any(told) {
                if heard {
                    self.answer();
                }
                return;
            }
            self.connect_step();
            self.ship();
            self.sync();
            match self.wires.iter().any(told) {
                true => continue,
                false => self.answer(),
            }
            self.wait(20);
        }
        panic!("the sink does not register");
    }

    pub fn sync(&mut self) {
        self.sync_step();
    }

    /// The sync under way fails, and no content that was not durable is left.
    pub fn sync_loses_all(&mut self) {
        let process = self.sink.as_mut().expect("a sink");
        process.sync.take().expect("a sync is under way");
        self.fail_sync(|| false);
    }

    pub fn sink_takes_changes(&self) -> bool {
        self.sink.as_ref().is_some_and(|p| p.engine.in_transfer())
    }

    /// The target's brake admits so many removals and no more.
    pub fn set_brake(&mut self, floor: u64) {
        let applier = Applier::new(self.dst.clone(), Brake::new(floor, 0.0), None);
        applier.set_filter(self.faults.filter.clone());
        self.sink.as_mut().expect("a sink").applier = applier;
    }

    pub fn file_at_sink(&self, at: &str) -> Option<Vec<u8>> {
        let disk = self.dst.disk();
        let ino = disk.find(&path(at)).ok()?;
        disk.content(ino).ok().map(<[u8]>::to_vec)
    }

    pub fn inode_at_sink(&self, at: &str) -> Option<Ino> {
        self.dst.disk().find(&path(at)).ok()
    }

    // ---- failures ----------------------------------------------------------------------------------

    /// All connections are lost with everything on them.
    pub fn cut_all(&mut self) {
        for (_, wire) in self.wires.values_mut() {
            for queue in [&mut wire.up, &mut wire.down] {
                queue.clear();
                queue.push_back(None);
            }
        }
        self.ship();
        self.answer();
        self.wires
            .retain(|_, (_, wire)| !wire.up.is_empty() || !wire.down.is_empty());
        self.connect_step();
    }

    pub fn kill_source(&mut self) {
        self.crash_source();
        self.ship();
    }

    /// The source starts again, and its state directory is lost.
    pub fn forget_source(&mut self) {
        self.kill_source();
        self.state.carryover.clear();
        self.restart_source();
    }

    /// The source is told to end in order.
    pub fn stop_source(&mut self) {
        self.source_event(source::Event::Stop);
    }

    pub fn source_runs(&self) -> bool {
        self.source.is_some()
    }

    /// What is kept for sinks outside of the source's memory.
    pub fn keeps_spilled(&self) -> bool {
        let process = self.source.as_ref().expect("it runs");
        !process.spilled.is_empty()
    }

    pub fn restart_source(&mut self) {
        self.start_source();
        self.connect_step();
    }

    pub fn kill_sink(&mut self) {
        self.crash_sink(false);
        self.answer();
    }

    /// The sink's host loses power: names, sizes and times stay, content that was not synced does not.
    pub fn power_cut_empties_files(&mut self) {
        self.kill_sink();
        let mut names = true;
        self.dst.disk().power_cut(|| std::mem::take(&mut names));
        self.power_was_cut = true;
    }

    /// The sink ends in order while no reader does anything.
    pub fn stop_sink(&mut self) {
        self.sink_event(sink::Event::Stop);
        for _ in 0..PATIENCE_STEPS {
            self.ship();
            self.apply_all();
            self.sync();
            self.answer();
            self.wait(20);
            if self.sink.is_none() {
                assert!(self.state.end.clean, "not in order");
                return;
            }
        }
        panic!("the sink does not end");
    }

    pub fn restart_sink(&mut self) {
        self.start_sink();
        self.connect_step();
    }

    /// What the sink's state directory holds.
    pub fn sink_state(&self) -> SinkState {
        SinkState(self.state.clone())
    }

    pub fn restore_sink_state(&mut self, state: SinkState) {
        self.state = state.0;
    }

    // ---- time --------------------------------------------------------------------------------------

    pub fn wait(&mut self, ms: u64) {
        self.pass_time(ms);
    }

    /// Everything that can be done is done, but no time passes and nothing is synced.
    pub fn flow(&mut self) {
        self.flow_with(Self::apply_all);
    }

    /// The same while the sink cannot bring this name to any state.
    pub fn flow_refusing(&mut self, at: &str, why: &Refusal) {
        self.flow_with(|world| {
            while let Some(held) = world.take_any_work() {
                match &held.1 {
                    change if names(change, &path(at)) => world.refuse(&held, why.clone()),
                    _ => world.apply_now(held),
                }
            }
        });
    }

    fn flow_with(&mut self, mut apply: impl FnMut(&mut Self)) {
        for _ in 0..PATIENCE_STEPS {
            if self.idle_but_sync() {
                return;
            }
            self.connect_step();
            self.hear();
            self.read_all();
            self.ship();
            apply(self);
            self.answer();
        }
        panic!("it does not come to rest");
    }

    fn idle_but_sync(&mut self) -> bool {
        let sync = self.sink.as_mut().and_then(|p| p.sync.take());
        let idle = self.idle();
        if let Some(process) = &mut self.sink {
            process.sync = sync;
        }
        idle
    }

    /// Takes steps in any order until something has come true.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..PATIENCE_STEPS {
            if holds(self) {
                return;
            }
            self.step().unwrap_or_else(|why| panic!("{why}"));
        }
        panic!("it never came true that {what}");
    }

    /// Takes so many steps in any order.
    pub fn some_steps(&mut self, count: u64) {
        for _ in 0..count {
            self.step().unwrap_or_else(|why| panic!("{why}"));
        }
    }

    /// Runs until osync says that both trees are equal; it must be so.
    /// Content sent to the sink since this was asked last, in bytes.
    pub fn take_content_sent(&mut self) -> u64 {
        std::mem::take(&mut self.content_sent)
    }

    /// Content that the sink was told to keep since this was asked last, in bytes.
    pub fn take_content_kept(&mut self) -> u64 {
        std::mem::take(&mut self.content_kept)
    }

    /// How often the sink was asked what it holds of a file, since this was asked last.
    pub fn take_bases_asked(&mut self) -> u64 {
        std::mem::take(&mut self.bases_asked)
    }

    /// The sink was asked what it holds of a file.
    pub fn has_asked_for_base(&self) -> bool {
        self.bases_asked > 0
    }

    /// Pages listed to find the names of linked inodes since this was asked last.
    pub fn take_searched(&mut self) -> u64 {
        std::mem::take(&mut self.searched)
    }

    pub fn must_settle(&mut self) {
        self.settle().unwrap_or_else(|why| panic!("{why}"));
    }

    /// Something happens between two steps of the next reader.
    pub fn between_steps(
        &self,
        step: usize,
        act: impl FnOnce(&mut Disk, &mut Users) + Send + 'static,
    ) {
        let (mut act, mut left) = (Some(act), step);
        let users = std::sync::Arc::clone(&self.users);
        self.src.interrupt(Some(Box::new(move |disk: &mut Disk| {
            if left == 0
                && let Some(act) = act.take()
            {
                let mut users = users.lock().expect("no panic in users");
                act(disk, &mut users);
                users.record(disk);
            }
            left = left.saturating_sub(1);
        })));
    }
}

/// A copy of the sink's state directory.
pub struct SinkState(State);

/// A name from text.
pub fn one(text: &str) -> Name {
    name(text)
}
