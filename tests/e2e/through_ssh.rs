//! The same through two ports forwarded by ssh, with the tunnel cut and laid again.

use std::fs;
use std::path::Path;

use crate::endpoint::{Addresses, PROMPT, Sink, Source, free_port};
use crate::fixture::{Fixture, LONG_SECONDS};
use crate::judge::assert_equal;
use crate::process::Process;
use crate::sshd::Sshd;
use crate::wait::wait_until;

/// Ordinary files in the tree.
const FILES: u32 = 5_000;

/// Both daemons started by hand, with a tunnel between them.
struct Operation<'a> {
    fixture: &'a Fixture,
    sshd: Sshd<'a>,
    source: Source<'a>,
    sink: Sink,
    tunnel: Process,
    ports: [(u16, u16); 2],
}

impl<'a> Operation<'a> {
    fn start(fixture: &'a Fixture) -> Self {
        let sshd = Sshd::start(fixture);
        let source = Source::start(fixture);
        let (command, data) = source.addresses.ports();
        let near = (free_port(), free_port());
        let ports = [(near.0, command), (near.1, data)];
        let tunnel = sshd.forward(&ports);
        let sink = Sink::start(fixture, &Addresses::on_ports(near.0, near.1));
        source.wait_for_phase("transfer");
        Self {
            fixture,
            sshd,
            source,
            sink,
            tunnel,
            ports,
        }
    }

    fn sessions(&self) -> u64 {
        self.source.transfer()["sessions"].as_u64().unwrap_or(0)
    }

    /// Kills the tunnel and lays it again. Returns when the sink is back in a new session.
    fn cut(&mut self) {
        let before = self.sessions();
        self.tunnel.kill();
        self.source.wait_for_phase("initialisation");
        self.tunnel = self.sshd.forward(&self.ports);
        wait_until("a new session", PROMPT, || self.sessions() > before);
        self.source.wait_for_phase("transfer");
    }

    fn flush_and_compare(&mut self) {
        self.source.flush();
        self.sink.process.assert_running();
        assert_equal(&self.fixture.source(), &self.fixture.target());
    }
}

#[test]
fn a_cut_tunnel_loses_nothing_under_churn() {
    let fixture = Fixture::populated(FILES, 5);
    let mut operation = Operation::start(&fixture);
    let mut churn = fixture.churn(LONG_SECONDS, 6);
    wait_until("the first entries", PROMPT, || {
        operation.source.transfer()["applied_entries"]
            .as_u64()
            .unwrap_or(0)
            > 100
    });
    churn.assert_running();
    operation.cut();
    churn.assert_running();
    churn.interrupt();
    operation.flush_and_compare();
    operation.source.stop(operation.sink);
    assert_equal(&fixture.source(), &fixture.target());
}

#[test]
fn what_is_durable_is_not_sent_again() {
    let fixture = Fixture::populated(FILES, 7);
    let mut operation = Operation::start(&fixture);
    operation.flush_and_compare();
    let before = operation.source.transfer();
    operation.cut();
    operation.flush_and_compare();
    let after = operation.source.transfer();

    // A walk after the cut may settle directories once more; files and their content stay at home.
    let count = |report: &serde_json::Value, field: &str| report[field].as_u64().unwrap();
    let sent_entries = count(&after, "sent_entries") - count(&before, "sent_entries");
    let dirs = count_dirs(&fixture.source());
    assert!(
        sent_entries <= dirs,
        "{sent_entries} entries sent again, with {dirs} directories"
    );
    let sent_bytes = count(&after, "sent_bytes") - count(&before, "sent_bytes");
    let first_bytes = count(&before, "sent_bytes");
    assert!(
        sent_bytes * 10 <= first_bytes,
        "{sent_bytes} bytes sent after {first_bytes} at first"
    );
    assert_eq!(count(&after, "sessions"), count(&before, "sessions") + 1);
    operation.source.stop(operation.sink);
}

fn count_dirs(top: &Path) -> u64 {
    let entries = fs::read_dir(top).unwrap().map(Result::unwrap);
    let dirs = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    1 + dirs.map(|dir| count_dirs(&dir.path())).sum::<u64>()
}
