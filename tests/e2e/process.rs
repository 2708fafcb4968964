//! A child process: its output in files, its end awaited with a deadline, killed when dropped.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_for;

/// Longest time for a process to stop where it is.
const FREEZE_LIMIT: Duration = Duration::from_secs(20);
/// How many lines of each log a failing test shows.
const TAIL_LINES: usize = 40;

/// A running (or ended) child.
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// A process that does nothing until this is dropped.
pub struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        // It fails only if somebody has killed it meanwhile.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// How a child ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Process {
    /// Starts `command`; its output goes to `NAME.out` and `NAME.err` in `logs`.
    pub fn start(name: &str, logs: &Path, command: &mut Command) -> Self {
        let stdout = logs.join(format!("{name}.out"));
        let stderr = logs.join(format!("{name}.err"));
        let child = command
            .stdout(File::create_new(&stdout).unwrap())
            .stderr(File::create_new(&stderr).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("starting {name} ({command:?}): {error}"));
        Self {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
        }
    }

    /// The same with `input` on standard input.
    pub fn start_with_input(name: &str, logs: &Path, command: &mut Command, input: &[u8]) -> Self {
        let file = logs.join(format!("{name}.in"));
        fs::write(&file, input).unwrap();
        Self::start(
            name,
            logs,
            command.stdin(Stdio::from(File::open(&file).unwrap())),
        )
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What it has logged so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// An error if it has ended.
    pub fn check_running(&mut self) -> Result<(), String> {
        match self.child.try_wait().unwrap() {
            None => Ok(()),
            Some(status) => Err(format!("{} has ended: {status}", self.name)),
        }
    }

    /// Asserts that it has not ended.
    pub fn assert_running(&mut self) {
        if let Err(reason) = self.check_running() {
            panic!("{reason}\n{}", self.tails());
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Finished {
        let status: ExitStatus = wait_for(&format!("{} to end", self.name), limit, || {
            let status = self.child.try_wait().unwrap();
            status.ok_or_else(|| "it still runs".to_owned())
        });
        assert_ne!(
            status.code(),
            Some(101),
            "{} panicked\n{}",
            self.name,
            self.tails()
        );
        assert_ne!(
            status.signal(),
            Some(Signal::ABORT.as_raw()),
            "{} aborted\n{}",
            self.name,
            self.tails()
        );
        Finished {
            code: status.code(),
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }

    /// Waits for its end and asserts exit code 0.
    pub fn expect_success(&mut self, limit: Duration) -> Finished {
        let finished = self.wait(limit);
        assert_eq!(
            finished.code,
            Some(0),
            "{} failed\n{}",
            self.name,
            self.tails()
        );
        finished
    }

    /// Ends it as `kill -9` does and waits until the kernel has done so.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The most memory that was ever resident, in KiB.
    pub fn resident_kib_max(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.trim().parse().ok())
            .unwrap()
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Stops it where it is, as a host does that sleeps. The value returned lets it go on when dropped.
    pub fn freeze(&self) -> Frozen {
        self.signal(Signal::STOP);
        let pid = self.pid();
        wait_for(&format!("{} to freeze", self.name), FREEZE_LIMIT, || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap();
            let state = stat.rsplit(')').next().unwrap().trim_start().to_owned();
            if state.starts_with('T') {
                Ok(())
            } else {
                Err(stat)
            }
        });
        Frozen(pid)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Its id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The most memory that it has used so far, in bytes.
    pub fn memory_peak(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid().as_raw_pid());
        let status = fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .unwrap();
        kib.trim().parse::<u64>().unwrap() * 1024
    }

    /// Sends SIGTERM, as a service manager does.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Its process id, which is also that of its first thread.
    pub fn id(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    /// How many of its threads have a name that begins like this.
    pub fn threads(&self, name: &str) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
        names
            .filter(|comm| comm.as_ref().is_ok_and(|comm| comm.starts_with(name)))
            .count()
    }

    /// The last lines of both logs.
    fn tails(&self) -> String {
        let (stdout, stderr) = (tail(&self.stdout()), tail(&self.stderr()));
        format!(
            "--- {0}, standard output:\n{stdout}\n--- {0}, standard error:\n{stderr}",
            self.name
        )
    }
}

impl Drop for Process {
    // The tests' runner shows what a failing test has printed.
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        // Both fail only if it has ended already, which is as well.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("{}", self.tails());
        }
    }
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
