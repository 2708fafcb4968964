//! Both endpoints as an operator starts them, and what an operator asks of them.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use serde_json::Value;

use crate::fixture::Fixture;
use crate::process::{Finished, Process};
use crate::wait::wait_for;

/// Longest time for anything that is done at once.
pub const PROMPT: Duration = Duration::from_secs(30);
/// Longest time for a tree to become equal.
pub const CONVERGENCE: Duration = Duration::from_secs(120);

/// The two addresses of a source endpoint.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Of the command channel.
    pub command: String,
    /// Of the data channel.
    pub data: String,
}

impl Addresses {
    /// On loopback, with these ports; 0 lets the source choose.
    pub fn on_ports(command: u16, data: u16) -> Self {
        Self {
            command: format!("tcp://127.0.0.1:{command}"),
            data: format!("tcp://127.0.0.1:{data}"),
        }
    }

    /// Two ports that nobody listens at.
    pub fn free() -> Self {
        Self::on_ports(free_port(), free_port())
    }

    /// The ports.
    pub fn ports(&self) -> (u16, u16) {
        (port_of(&self.command), port_of(&self.data))
    }
}

fn port_of(address: &str) -> u16 {
    address
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap_or_else(|_| panic!("no port in {address}"))
}

/// A port that nobody listens at. Below the range from which the kernel gives ports to clients, so that
/// none of them takes it meanwhile, and never the same twice.
pub fn free_port() -> u16 {
    const FIRST: u16 = 16_000;
    const COUNT: u16 = 16_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Runs of the tests beside this one start elsewhere.
    let offset = (std::process::id() % u32::from(COUNT)) as u16;
    (0..COUNT)
        .map(|_| FIRST + (offset.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))) % COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("some port is free")
}

/// Held by whoever changes how long the kernel makes event queues for the whole host.
pub static EVENT_QUEUES: RwLock<()> = RwLock::new(());

/// A running source endpoint and its operator.
pub struct Source<'a> {
    fixture: &'a Fixture,
    /// The daemon.
    pub process: Process,
    /// Where it listens.
    pub addresses: Addresses,
}

impl<'a> Source<'a> {
    /// Starts it on ports of its own choice.
    pub fn start(fixture: &'a Fixture) -> Self {
        Self::start_at(fixture, &Addresses::on_ports(0, 0))
    }

    /// Starts it at these addresses and waits until it has printed where it listens.
    pub fn start_at(fixture: &'a Fixture, addresses: &Addresses) -> Self {
        Self::start_by(fixture, &[], addresses)
    }

    /// The same with more arguments.
    pub fn start_with(fixture: &'a Fixture, addresses: &Addresses, more: &[&str]) -> Self {
        Self::start_by_with(fixture, &[], addresses, more)
    }

    /// The same, told by a caller that holds [`EVENT_QUEUES`] and so may not take it again.
    pub fn start_with_queues_held(fixture: &'a Fixture, more: &[&str]) -> Self {
        Self::launch_now(fixture, &[], &Addresses::on_ports(0, 0), more)
    }

    /// The same, started by another program.
    pub fn start_by(fixture: &'a Fixture, starter: &[&str], addresses: &Addresses) -> Self {
        Self::start_by_with(fixture, starter, addresses, &[])
    }

    /// The same, started by another program, with more arguments.
    pub fn start_by_with(
        fixture: &'a Fixture,
        starter: &[&str],
        addresses: &Addresses,
        more: &[&str],
    ) -> Self {
        // Until it has its event queue, nobody may change how long queues are.
        let queues = EVENT_QUEUES.read().unwrap_or_else(PoisonError::into_inner);
        let source = Self::launch_now(fixture, starter, addresses, more);
        drop(queues);
        source
    }

    fn launch_now(
        fixture: &'a Fixture,
        starter: &[&str],
        addresses: &Addresses,
        more: &[&str],
    ) -> Self {
        let mut command = fixture.osync_by("source", starter);
        command.arg("source").arg(fixture.source()).args(more);
        command.args(["--command", &addresses.command, "--data", &addresses.data]);
        let mut process = fixture.start("source", &mut command);
        let addresses = printed_addresses(&mut process);
        Self {
            fixture,
            process,
            addresses,
        }
    }

    /// An operator's command for this source.
    pub fn operator(&self) -> Command {
        let mut command = self.fixture.osync("operator");
        command.env("OSYNC_COMMAND", &self.addresses.command);
        command
    }

    /// Runs an operator's command to its end.
    pub fn run(&self, args: &[&str], limit: Duration) -> Finished {
        self.fixture.run(args[0], self.operator().args(args), limit)
    }

    /// Runs an operator's command that must succeed at once.
    pub fn expect(&self, args: &[&str]) -> Finished {
        self.fixture
            .start(args[0], self.operator().args(args))
            .expect_success(PROMPT)
    }

    /// A report, parsed.
    pub fn report(&self, args: &[&str]) -> Value {
        let finished = self.expect(&[args, &["--json"]].concat());
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| {
            panic!(
                "{args:?} --json printed no JSON: {error}\n{}",
                finished.stdout
            )
        })
    }

    /// Waits until the only sink is in this phase.
    pub fn wait_for_phase(&self, phase: &str) {
        wait_for(&format!("a sink in phase {phase}"), PROMPT, || {
            let status = self.report(&["status"]);
            let sinks = status["sinks"].as_array().map_or(&[][..], Vec::as_slice);
            match sinks {
                [sink] if sink["phase"] == phase => Ok(()),
                _ => Err(format!("status is {status}")),
            }
        });
    }

    /// The only sink's part of the transfer report.
    pub fn transfer(&self) -> Value {
        self.report(&["report", "transfer"])["sinks"][0].clone()
    }

    /// Flushes; everything that happened before must become durable on the sink.
    pub fn flush(&self) {
        let limit = format!("{}s", CONVERGENCE.as_secs());
        let mut flush = self.operator();
        flush.args(["flush", "--timeout", &limit]);
        self.fixture
            .start("flush", &mut flush)
            .expect_success(CONVERGENCE + PROMPT);
    }

    /// Ends the service; both endpoints must end with exit code 0.
    pub fn stop(mut self, mut sink: Sink) {
        self.expect(&["stop"]);
        self.process.expect_success(PROMPT);
        sink.process.expect_success(PROMPT);
    }
}

/// A running sink endpoint.
pub struct Sink {
    /// The daemon.
    pub process: Process,
}

impl Sink {
    /// Starts it on the fixture's target.
    pub fn start(fixture: &Fixture, addresses: &Addresses) -> Self {
        Self::start_with(fixture, &fixture.target(), addresses, &[])
    }

    /// Starts it on another root, with more arguments.
    pub fn start_with(
        fixture: &Fixture,
        root: &Path,
        addresses: &Addresses,
        more: &[&str],
    ) -> Self {
        let mut command = fixture.osync("sink");
        command.arg("sink").arg(root).args(more);
        Self::run(fixture, command, addresses)
    }

    /// Starts it on the fixture's target, by another program, with more arguments.
    pub fn start_by(
        fixture: &Fixture,
        starter: &[&str],
        addresses: &Addresses,
        more: &[&str],
    ) -> Self {
        let mut command = fixture.osync_by("sink", starter);
        command.arg("sink").arg(fixture.target()).args(more);
        Self::run(fixture, command, addresses)
    }

    fn run(fixture: &Fixture, mut command: Command, addresses: &Addresses) -> Self {
        command.args(["--command", &addresses.command, "--data", &addresses.data]);
        Self {
            process: fixture.start("sink", &mut command),
        }
    }
}

/// Waits for the lines `command ADDR` and `data ADDR` on standard output.
fn printed_addresses(process: &mut Process) -> Addresses {
    wait_for("the source to print its addresses", PROMPT, || {
        process.assert_running();
        let printed = process.stdout();
        let find = |key: &str| {
            let line = printed
                .lines()
                .find_map(|line| line.trim().strip_prefix(key));
            line.map(|rest| rest.trim().to_owned())
                .filter(|address| address.contains("://"))
        };
        match (find("command "), find("data ")) {
            (Some(command), Some(data)) => Ok(Addresses { command, data }),
            _ => Err(format!("it printed {printed:?}")),
        }
    })
}
