//! The place of one test: source and target directories, state and logs, all gone at its end.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Finished, Process};
use crate::wait::wait_until;

/// The program under test.
pub const OSYNC: &str = env!("CARGO_BIN_EXE_osync");

/// Whom permissions bind.
const NOBODY: u32 = 65534;

/// Seconds of churn that end when the test says so, not by themselves.
pub const LONG_SECONDS: u32 = 600;
/// Longest time from the start of a script to its first action.
const STARTUP_LIMIT: Duration = Duration::from_secs(30);
/// Longest time for filling a tree.
const POPULATE_LIMIT: Duration = Duration::from_secs(120);

/// A temporary directory with a source, a target, and one state directory for each endpoint.
pub struct Fixture {
    dir: TempDir,
    /// The program runs as somebody whom permissions bind: root reads everything.
    is_of_nobody: bool,
    /// How many processes were started: makes the names of their logs unique.
    started: Cell<u32>,
}

impl Fixture {
    /// The same for a user without root's rights, whose own everything is.
    pub fn of_nobody() -> Self {
        let mut fixture = Self::new();
        if !rustix::process::geteuid().is_root() {
            return fixture;
        }
        fixture.is_of_nobody = true;
        // Nobody may not enter the place of the build: the program comes along.
        fs::copy(OSYNC, fixture.path().join("osync")).unwrap();
        let nobody = Some(NOBODY);
        for path in [fixture.source(), fixture.target(), fixture.path().into()] {
            chown(path, nobody, nobody).unwrap();
        }
        fixture
    }

    /// An empty source and an empty target, where temporary directories are.
    pub fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// The same on a file system in memory.
    pub fn in_memory() -> Self {
        Self::within(Path::new("/dev/shm"))
    }

    fn within(place: &Path) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("osync-e2e-")
            .tempdir_in(place)
            .unwrap();
        let fixture = Self {
            dir,
            is_of_nobody: false,
            started: Cell::new(0),
        };
        for path in [fixture.source(), fixture.target(), fixture.logs()] {
            fs::create_dir(path).unwrap();
        }
        fixture
    }

    /// A source with `files` mixed files and an empty target.
    pub fn populated(files: u32, seed: u32) -> Self {
        let fixture = Self::new();
        let mut populate = script("churn");
        populate.arg("populate").arg(fixture.source());
        populate.args(["--files", &files.to_string(), "--seed", &seed.to_string()]);
        // Large files are few, but half of the bytes: small trees do with one.
        populate.args([
            "--fifos",
            "3",
            "--large",
            if files < 10_000 { "1" } else { "4" },
        ]);
        fixture
            .start("populate", &mut populate)
            .expect_success(POPULATE_LIMIT);
        fixture
    }

    /// The directory that holds everything.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The replicated directory.
    pub fn source(&self) -> PathBuf {
        self.path().join("source")
    }

    /// The directory of the sink.
    pub fn target(&self) -> PathBuf {
        self.path().join("target")
    }

    fn logs(&self) -> PathBuf {
        self.path().join("logs")
    }

    /// osync with a state directory of its own for each `role`, and nothing inherited that configures it.
    pub fn osync(&self, role: &str) -> Command {
        if !self.is_of_nobody {
            return self.command(role, &[], Path::new(OSYNC));
        }
        let id = NOBODY.to_string();
        let starter = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
        self.command(role, &starter, &self.path().join("osync"))
    }

    /// The same, started by another program, if any, that is given it as its last argument.
    pub fn osync_by(&self, role: &str, starter: &[&str]) -> Command {
        match starter {
            [] => self.osync(role),
            starter => self.command(role, starter, Path::new(OSYNC)),
        }
    }

    fn command(&self, role: &str, starter: &[&str], osync: &Path) -> Command {
        let words = starter.iter().map(OsStr::new);
        let mut words = words.chain([osync.as_os_str()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("OSYNC_") {
                command.env_remove(name);
            }
        }
        command.env_remove("STATE_DIRECTORY");
        command.env("OSYNC_STATE_DIR", self.path().join(format!("state-{role}")));
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// Starts a process with logs of its own.
    pub fn start(&self, name: &str, command: &mut Command) -> Process {
        Process::start(&self.log_name(name), &self.logs(), command)
    }

    /// Runs a process to its end.
    pub fn run(&self, name: &str, command: &mut Command, limit: Duration) -> Finished {
        self.start(name, command).wait(limit)
    }

    /// Runs a process with `input` on standard input to its end.
    pub fn run_with_input(&self, name: &str, command: &mut Command, input: &[u8]) -> Finished {
        let name = self.log_name(name);
        Process::start_with_input(&name, &self.logs(), command, input).wait(Duration::from_secs(60))
    }

    /// Changes the source for `seconds` from now on.
    pub fn churn(&self, seconds: u32, seed: u32) -> Churn {
        let mut run = script("churn");
        run.arg("run").arg(self.source());
        run.args([
            "--seconds",
            &seconds.to_string(),
            "--seed",
            &seed.to_string(),
        ]);
        let mut process = self.start("churn", &mut run);
        wait_until("the churn to start", STARTUP_LIMIT, || {
            process.assert_running();
            process.stdout().starts_with("started\n")
        });
        Churn {
            process,
            limit: Duration::from_secs(u64::from(seconds) + 60),
        }
    }

    fn log_name(&self, name: &str) -> String {
        self.started.set(self.started.get() + 1);
        format!("{:03}-{name}", self.started.get())
    }
}

/// Users at work on the source.
pub struct Churn {
    process: Process,
    limit: Duration,
}

impl Churn {
    /// Asserts that they are not done yet: what the test did just now happened meanwhile.
    pub fn assert_running(&mut self) {
        self.process.assert_running();
    }

    /// Ends their work now; the operation under way may be left half done.
    pub fn interrupt(self) {
        self.process.interrupt();
        self.finish();
    }

    /// Waits until they are done.
    pub fn finish(mut self) {
        self.process.expect_success(self.limit);
    }
}

fn script(name: &str) -> Command {
    let mut command = Command::new(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("scripts")
            .join(name),
    );
    command.stdin(Stdio::null());
    command
}
