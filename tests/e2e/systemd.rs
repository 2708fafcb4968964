//! A service manager that restarts: readiness, watchdog and the end, as a fake of its socket hears them;
//! and the units, whose restrictions take nothing away that the daemons need.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::endpoint::{Addresses, PROMPT, Sink, Source};
use crate::fixture::{Fixture, OSYNC};
use crate::process::Process;
use crate::tree;
use crate::wait::{wait_for, wait_until};

/// After which time of silence the fake would end a process.
const WATCHDOG: Duration = Duration::from_secs(2);

/// What listens in the place of a service manager.
struct Manager {
    socket: UnixDatagram,
    at: PathBuf,
    /// Every line that was heard, and when.
    heard: Vec<(Instant, String)>,
}

impl Manager {
    fn start(fixture: &Fixture, role: &str) -> Self {
        let at = fixture.path().join(format!("notify-{role}"));
        let socket = UnixDatagram::bind(&at).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            at,
            heard: Vec::new(),
        }
    }

    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = std::str::from_utf8(&buffer[..length]).unwrap();
            let now = Instant::now();
            self.heard
                .extend(text.lines().map(|line| (now, line.to_owned())));
        }
    }

    fn count(&mut self, line: &str) -> usize {
        self.listen();
        self.heard.iter().filter(|(_, heard)| heard == line).count()
    }

    fn wait_for(&mut self, line: &str) {
        wait_for(&format!("the notification {line}"), PROMPT, || {
            match self.count(line) {
                0 => Err(format!("{:?}", self.heard)),
                _ => Ok(()),
            }
        });
    }

    fn wait_for_status(&mut self, beginning: &str) {
        wait_for(&format!("the status {beginning}"), PROMPT, || {
            self.listen();
            let statuses = self.heard.iter().rev();
            let last = statuses.filter_map(|(_, line)| line.strip_prefix("STATUS="));
            match last.clone().next() {
                Some(status) if status.starts_with(beginning) => Ok(()),
                _ => Err(format!("{:?}", self.heard)),
            }
        });
    }

    /// The environment of a service with a watchdog. The process gets its own number from `exec`.
    fn supervise(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", &self.at);
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    }

    /// The process tells often enough, from `since` on, that it lives.
    fn assert_pinged(&mut self, since: Instant) {
        self.listen();
        let heard = self.heard.iter().filter(|(_, line)| line == "WATCHDOG=1");
        let pings: Vec<Instant> = heard.map(|(at, _)| *at).filter(|at| *at >= since).collect();
        for pair in pings.windows(2) {
            assert!(
                pair[1] - pair[0] < WATCHDOG,
                "silent for {:?}",
                pair[1] - pair[0]
            );
        }
    }
}

fn supervised_source(fixture: &Fixture, manager: &Manager, at: &Addresses) -> Process {
    let mut command = fixture.osync("source");
    command.arg("source").arg(fixture.source());
    command.args(["--command", &at.command, "--data", &at.data]);
    manager.supervise(&mut command);
    fixture.start("source", &mut command)
}

fn supervised_sink(fixture: &Fixture, manager: &Manager, at: &Addresses) -> Process {
    let mut command = fixture.osync("sink");
    command.arg("sink").arg(fixture.target());
    command.args(["--command", &at.command, "--data", &at.data]);
    manager.supervise(&mut command);
    fixture.start("sink", &mut command)
}

#[test]
fn an_endpoint_tells_that_it_serves_where_it_stands_and_that_it_ends() {
    let fixture = Fixture::new();
    fs::write(fixture.source().join("file"), "content").unwrap();
    let at = Addresses::free();
    let mut sinks = Manager::start(&fixture, "sink");
    let sink = supervised_sink(&fixture, &sinks, &at);
    // A sink serves as soon as it tries to connect.
    sinks.wait_for("READY=1");
    sinks.wait_for_status("initialisation: waiting for tcp://");
    let mut sources = Manager::start(&fixture, "source");
    let mut source = supervised_source(&fixture, &sources, &at);
    sources.wait_for("READY=1");
    // Whoever was told can ask at once.
    let mut status = fixture.osync("operator");
    status.env("OSYNC_COMMAND", &at.command).arg("status");
    fixture.start("status", &mut status).expect_success(PROMPT);
    sources.wait_for_status("transfer to 1 of 1 sinks, no lag");
    sinks.wait_for_status("transfer from tcp://");
    assert_eq!(sources.count("STOPPING=1") + sinks.count("STOPPING=1"), 0);

    source.terminate();
    sources.wait_for("STOPPING=1");
    source.expect_success(PROMPT);
    // The sink ends with its source.
    sinks.wait_for("STOPPING=1");
    let mut sink = sink;
    sink.expect_success(PROMPT);
    for manager in [&mut sources, &mut sinks] {
        assert_eq!(manager.count("READY=1"), 1, "{:?}", manager.heard);
        assert_eq!(manager.count("STOPPING=1"), 1, "{:?}", manager.heard);
    }
}

#[test]
fn what_cannot_start_never_says_that_it_serves() {
    let fixture = Fixture::new();
    let mut manager = Manager::start(&fixture, "sink");
    fs::write(fixture.target().join("foreign"), "not ours").unwrap();
    let mut sink = supervised_sink(&fixture, &manager, &Addresses::free());
    assert_eq!(sink.wait(PROMPT).code, Some(78));
    manager.listen();
    assert_eq!(manager.heard, [], "it never served");
}

#[test]
fn a_loop_that_hangs_misses_the_watchdog() {
    let fixture = Fixture::new();
    let at = Addresses::free();
    let mut managers = [
        Manager::start(&fixture, "source"),
        Manager::start(&fixture, "sink"),
    ];
    let source = supervised_source(&fixture, &managers[0], &at);
    managers[0].wait_for("READY=1");
    let sink = supervised_sink(&fixture, &managers[1], &at);
    managers[1].wait_for_status("transfer from");
    for (manager, process) in managers.iter_mut().zip([&source, &sink]) {
        let pings = |manager: &mut Manager| manager.count("WATCHDOG=1");
        let before = pings(manager);
        let since = Instant::now();
        wait_until("pings", PROMPT, || pings(manager) >= before + 3);
        manager.assert_pinged(since);

        // Only the loop stops; signals are still heard, and state is still written.
        let Some(stopped) = Stopped::main_thread_of(process) else {
            return;
        };
        manager.listen();
        let (held, since) = (pings(manager), Instant::now());
        wait_until("the watchdog's time", PROMPT, || {
            since.elapsed() > WATCHDOG * 3 / 2
        });
        assert_eq!(pings(manager), held, "somebody else pings");
        drop(stopped);
        wait_until("a ping of the loop that turns again", PROMPT, || {
            pings(manager) > held
        });
    }
}

/// One thread of another process that does not run, while all others do.
struct Stopped(libc::pid_t);

impl Stopped {
    /// `None` where nobody may do that.
    #[allow(clippy::print_stderr)]
    fn main_thread_of(process: &Process) -> Option<Self> {
        let thread = process.id();
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: these requests take no memory of ours.
        let ask = |request| unsafe { libc::ptrace(request, thread, nothing, nothing) };
        if ask(libc::PTRACE_SEIZE) != 0 {
            let why = std::io::Error::last_os_error();
            eprintln!("NOT TRIED: a loop that hangs: a thread cannot be stopped here: {why}");
            return None;
        }
        assert_eq!(ask(libc::PTRACE_INTERRUPT), 0);
        let mut status = 0;
        // SAFETY: the status is ours to be written.
        let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
        assert!(waited == thread && libc::WIFSTOPPED(status), "{status:x}");
        Some(Self(thread))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: this request takes no memory of ours. It fails only if the process is gone.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, nothing, nothing) };
    }
}

fn units() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/systemd");
    let units: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert_eq!(units.len(), 2);
    units
}

/// The value of a directive, which stands in the unit once.
fn directive(unit: &str, name: &str) -> String {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(name));
    let values: Vec<&str> = lines.filter_map(|rest| rest.strip_prefix('=')).collect();
    assert_eq!(values.len(), 1, "{name}: {values:?}");
    values[0].to_owned()
}

#[test]
#[allow(clippy::print_stderr)]
fn the_units_are_what_systemd_understands() {
    let fixture = Fixture::new();
    for unit in units() {
        let text = fs::read_to_string(&unit).unwrap();
        assert_eq!(directive(&text, "Type"), "notify");
        assert_eq!(directive(&text, "Restart"), "always");
        assert_eq!(directive(&text, "RestartPreventExitStatus"), "0 64 78");
        let copy = fixture.path().join(unit.file_name().unwrap());
        fs::write(&copy, text.replace("/usr/local/bin/osync", OSYNC)).unwrap();
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--man=no"]).arg(&copy);
        match verify.output() {
            Err(error) => eprintln!("NOT TRIED: systemd-analyze verify: {error}"),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success() && said.is_empty(), "{said}");
            }
        }
    }
}

/// The endpoints with no more capabilities than their units leave them, and without new privileges.
#[test]
#[allow(clippy::print_stderr)]
fn what_the_units_take_away_is_not_needed() {
    if !tree::is_root() {
        eprintln!("NOT TRIED: what the units take away: only root has it");
        return;
    }
    let fixture = Fixture::new();
    let bounded = |role: &str| -> Vec<String> {
        let unit = units().into_iter().find(|unit| {
            unit.to_str()
                .unwrap()
                .ends_with(&format!("osync-{role}@.service"))
        });
        let text = fs::read_to_string(unit.unwrap()).unwrap();
        let left: BTreeSet<String> = directive(&text, "CapabilityBoundingSet")
            .split(' ')
            .map(|name| format!("+{}", name.strip_prefix("CAP_").unwrap().to_lowercase()))
            .collect();
        let left = Vec::from_iter(left).join(",");
        let words = ["setpriv", "--no-new-privs", "--bounding-set"];
        let mut words: Vec<String> = words.map(str::to_owned).to_vec();
        words.push(format!("-all,{left}"));
        words
    };
    let (for_source, for_sink) = (bounded("source"), bounded("sink"));
    let for_source: Vec<&str> = for_source.iter().map(String::as_str).collect();
    let for_sink: Vec<&str> = for_sink.iter().map(String::as_str).collect();
    tree::make(&fixture);
    let source = Source::start_by(&fixture, &for_source, &Addresses::on_ports(0, 0));
    let sink = Sink::start_by(&fixture, &for_sink, &source.addresses, &[]);
    source.wait_for_phase("transfer");
    source.flush();
    tree::assert_same(&fixture);
    tree::mutate(&fixture);
    source.flush();
    tree::assert_same(&fixture);
    let limits = source.report(&["status"])["sinks"][0]["limits"].clone();
    assert_eq!(limits.as_array().map(Vec::len), Some(0), "{limits}");
    source.stop(sink);
}
