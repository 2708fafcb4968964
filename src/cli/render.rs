//! Reports for people: aligned text, ages in seconds, sizes in binary units, paths escaped.

use std::fmt::Write;

use bytesize::ByteSize;

use super::console::printable;
use super::table::Table;
use crate::engine::source::HOW_TO_GO_ON;
use crate::report::{
    AuditStatus, EventQueue, HotFile, LaneQueue, Limit, MountsNotEntered, Phase, ProblemsReport,
    QueueReport, Rate, RateLimits, SinkQueue, SinkStatus, SinkTransfer, Status, TransferReport,
};

/// What stands in the place of a value that is not known or does not apply.
const UNKNOWN: &str = "-";

/// Mounts that a status names on its one screen; JSON has more.
const MOUNTS_NAMED: usize = 3;

pub(super) fn status(status: &Status) -> String {
    let mut text = format!(
        "osync {}  {}\n{}, up {}{}\n",
        printable(&status.version),
        printable(&status.root),
        state(status),
        seconds(status.uptime_ms),
        rate_limits(&status.rate_limits).map_or_else(String::new, |limited| format!(", {limited}")),
    );
    if let Some(reason) = &status.halted {
        line(&mut text, "HALTED", &format!("{reason}; {HOW_TO_GO_ON}"));
    }
    events(&mut text, &status.events, &audits(&status.audit));
    limits(&mut text, &status.limits);
    mounts(&mut text, &status.mounts_not_entered);
    if status.sinks.is_empty() {
        line(&mut text, "sinks", "none has registered");
    }
    for sink in &status.sinks {
        text.push('\n');
        sink_status(&mut text, sink);
    }
    text
}

/// How the backlog is limited, if it is.
pub(super) fn rate_limits(limits: &RateLimits) -> Option<String> {
    let bytes = limits.bytes_per_s.map(|bytes| format!("{}/s", size(bytes)));
    let operations = limits.operations_per_s;
    let operations = operations.map(|operations| format!("{operations} operations/s"));
    let limits: Vec<String> = bytes.into_iter().chain(operations).collect();
    (!limits.is_empty()).then(|| format!("backlog limited to {}", limits.join(" and ")))
}

/// How many mounts are not entered, and which the first ones are.
fn mounts(text: &mut String, mounts: &MountsNotEntered) {
    if mounts.total == 0 {
        return;
    }
    let named = &mounts.paths[..mounts.paths.len().min(MOUNTS_NAMED)];
    let more = if mounts.total > named.len() as u64 {
        ", ..."
    } else {
        ""
    };
    let value = format!("{} not entered: {}{more}", mounts.total, named.join(", "));
    line(text, "mounts", &value);
}

/// One line about a status, for progress.
pub(super) fn progress(status: &Status) -> String {
    match status.sinks.first() {
        None => "waiting for the sink".into(),
        Some(sink) => format!(
            "{}: {} pending, {}, {} problems, ETA {}",
            verdict(sink),
            sink.pending_entries,
            rate(sink.rate),
            sink.problems,
            optional(sink.eta_ms, seconds),
        ),
    }
}

pub(super) fn queue(report: &QueueReport) -> String {
    let mut text = String::new();
    events(&mut text, &report.events, "");
    for sink in &report.sinks {
        text.push('\n');
        sink_queue(&mut text, sink);
    }
    text
}

pub(super) fn transfer(report: &TransferReport) -> String {
    let sinks: Vec<String> = report.sinks.iter().map(sink_transfer).collect();
    if sinks.is_empty() {
        "no sink has registered\n".into()
    } else {
        sinks.join("\n")
    }
}

pub(super) fn problems(report: &ProblemsReport) -> String {
    if report.total == 0 {
        return "no problems\n".into();
    }
    let titles = [
        "sink",
        "side",
        "since",
        "tries",
        "errno",
        "operation",
        "path and reason",
    ];
    let mut table = Table::new(titles);
    for problem in &report.problems {
        table.row([
            problem.sink.clone(),
            problem.side.clone(),
            seconds(problem.since_ms),
            problem.tries.to_string(),
            if problem.errno == 0 {
                UNKNOWN.into()
            } else {
                problem.errno.to_string()
            },
            problem.operation.clone(),
            format!("{}: {}", problem.path, problem.reason),
        ]);
    }
    let mut text = table.render();
    let shown = report.problems.len() as u64;
    if shown < report.total {
        let _ = writeln!(text, "and {} more", report.total - shown);
    }
    text
}

fn state(status: &Status) -> &'static str {
    match (status.paused, status.phase) {
        (true, _) => "paused",
        (false, phase) => phase_name(phase),
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Initialisation => "initialisation",
        Phase::Transfer => "transfer",
        Phase::Termination => "termination",
    }
}

fn events(text: &mut String, events: &EventQueue, audits: &str) {
    let EventQueue {
        bytes,
        fill,
        warning,
        critical,
        overflows,
        ..
    } = events;
    let [fill, warning, critical] = [fill, warning, critical].map(|share| share * 100.0);
    let bytes = size(*bytes);
    line(
        text,
        "events",
        &format!(
            "{bytes} waiting, queue {fill:.1} % full (warning {warning:.0} %, critical \
             {critical:.0} %), {overflows} overflows"
        ),
    );
    let unwatched = match events.unwatched_dirs {
        0 => String::new(),
        dirs => format!(", {dirs} unwatched and walked again instead"),
    };
    line(
        text,
        "watched",
        &format!("{} directories{unwatched}{audits}", events.watched_dirs),
    );
}

/// What audits have found that no event had told of.
fn audits(audit: &AuditStatus) -> String {
    match (audit.completed, audit.found) {
        (0, 0) => String::new(),
        (completed, found) => format!("; {found} changes found by {completed} audits alone"),
    }
}

fn sink_status(text: &mut String, sink: &SinkStatus) {
    let _ = writeln!(text, "sink {}", printable(&sink.sink));
    line(
        text,
        "state",
        &format!("{}, {}", phase_name(sink.phase), verdict(sink)),
    );
    line(text, "lag", &optional(sink.lag_ms, seconds));
    line(
        text,
        "pending",
        &format!("{} entries", sink.pending_entries),
    );
    line(text, "rate", &rate(sink.rate));
    line(text, "ETA", &optional(sink.eta_ms, seconds));
    line(text, "problems", &sink.problems.to_string());
    line(text, "halted", &format!("{} removals", sink.halted));
    limits(text, &sink.limits);
}

/// What cannot be preserved, a line each.
fn limits(text: &mut String, limits: &[Limit]) {
    for limit in limits {
        let entries = limit.entries.map(|entries| format!(" ({entries} entries)"));
        let (what, consequence) = (limit.kind.word(), printable(&limit.consequence));
        line(
            text,
            "limit",
            &format!("{what}{}: {consequence}", entries.unwrap_or_default()),
        );
    }
}

fn verdict(sink: &SinkStatus) -> &'static str {
    match (sink.shortage, sink.converged, sink.settled) {
        (Some(shortage), ..) => shortage.words(),
        (None, true, _) => "equal",
        (None, false, true) => "equal except for its limits",
        (None, false, false) => "not equal yet",
    }
}

fn sink_queue(text: &mut String, sink: &SinkQueue) {
    let _ = writeln!(text, "sink {}", printable(&sink.sink));
    let mut lanes = Table::new(["  lane", "waiting", "in flight", "bytes", "oldest", ""]);
    for (name, lane) in [("  live", &sink.live), ("  backlog", &sink.backlog)] {
        let LaneQueue {
            waiting_entries,
            in_flight_entries,
            in_flight_bytes,
            oldest_ms,
        } = lane;
        lanes.row([
            name.into(),
            waiting_entries.to_string(),
            in_flight_entries.to_string(),
            size(*in_flight_bytes),
            optional(*oldest_ms, seconds),
            String::new(),
        ]);
    }
    text.push_str(&lanes.render());
    line(text, "lag", &optional(sink.lag_ms, seconds));
    line(
        text,
        "walk",
        &format!(
            "{} directories compared, at least {} to go, {} rescans owed",
            sink.dirs_done, sink.dirs_pending, sink.rescans_owed
        ),
    );
    files(text, "hottest", &sink.hottest);
    files(text, "never settling", &sink.never_settling);
}

fn files(text: &mut String, title: &str, files: &[HotFile]) {
    if files.is_empty() {
        return;
    }
    let _ = writeln!(text, "  {title}");
    for file in files {
        let _ = writeln!(text, "    {:>8} times  {}", file.sent, file.path);
    }
}

fn sink_transfer(sink: &SinkTransfer) -> String {
    let mut text = format!("sink {}\n", printable(&sink.sink));
    let amount = |entries: u64, bytes| format!("{entries} entries, {}", size(bytes));
    line(
        &mut text,
        "sent",
        &amount(sink.sent_entries, sink.sent_bytes),
    );
    line(
        &mut text,
        "applied",
        &amount(sink.applied_entries, sink.applied_bytes),
    );
    line(&mut text, "last 10 s", &rate(sink.rate_10s));
    line(&mut text, "last 5 min", &rate(sink.rate_5min));
    line(&mut text, "retries", &sink.retries.to_string());
    line(
        &mut text,
        "read open",
        &format!("{} files", sink.read_while_open),
    );
    if sink.kept_dirs > 0 {
        line(
            &mut text,
            "kept",
            &format!("{} directories with excluded entries", sink.kept_dirs),
        );
    }
    line(
        &mut text,
        "in flight",
        &format!("{} messages", sink.in_flight_messages),
    );
    let marks = format!(
        "sent {}, applied {}, durable {}",
        sink.sent_mark, sink.applied_mark, sink.durable_mark
    );
    line(&mut text, "marks", &marks);
    let epoch = sink.epoch.as_deref().unwrap_or("away");
    line(
        &mut text,
        "session",
        &format!("{epoch}, {} so far", sink.sessions),
    );
    for path in &sink.streams {
        line(&mut text, "streaming", &path.to_string());
    }
    text
}

/// A title and a value.
fn line(text: &mut String, title: &str, value: &str) {
    let _ = writeln!(text, "  {title:<11}{}", printable(value));
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

fn rate(rate: Rate) -> String {
    // Rates are never negative; the fraction of a byte does not matter.
    format!(
        "{:.0} entries/s, {}/s",
        rate.entries,
        size(rate.bytes as u64)
    )
}

fn optional<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.into(), show)
}

#[cfg(test)]
pub(super) mod tests;
