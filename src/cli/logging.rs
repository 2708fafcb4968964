//! Logs, on standard error. Whatever standard error does, nobody waits for it: a full disk, a terminal
//! that is gone, or a reader that has stopped reading costs lines, which are counted, and nothing else.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

use crate::config::{LogFormat, LogLevel, Settings};

/// Lines that wait to be written; further ones are lost.
const LINES_MAX: usize = 1024;

/// How long [`finish`] waits for the lines that are left.
const FINISH_LIMIT: Duration = Duration::from_secs(1);

static LOGS: OnceLock<Logs> = OnceLock::new();

/// Starts logging as the settings say. A second call changes nothing.
pub fn start(settings: &Settings) {
    let level = match settings.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let logs = LOGS.get_or_init(|| Logs::to(io::stderr()));
    let logs = fmt()
        .with_max_level(level)
        .with_writer(|| Line(logs.clone()));
    // The only failure is that logging was started before.
    let _ = match settings.log_format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
}

/// Waits until everything logged so far is written, for a second at most.
pub fn finish() {
    if let Some(logs) = LOGS.get() {
        logs.flush(FINISH_LIMIT);
    }
}

/// The way to the thread that writes.
#[derive(Clone)]
struct Logs {
    lines: Sender<Vec<u8>>,
    /// Each is answered when everything sent before is written.
    flushes: Sender<Sender<()>>,
    /// Lines that were not written and not yet told of.
    lost: Arc<AtomicU64>,
}

impl Logs {
    fn to(output: impl Write + Send + 'static) -> Self {
        let (lines, to_write) = bounded(LINES_MAX);
        let (flushes, to_flush) = unbounded();
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            output,
            lost: Arc::clone(&lost),
        };
        // Without its thread every line is lost, which ends nothing either.
        let _ = std::thread::Builder::new()
            .name("logs".into())
            .spawn(move || writer.run(&to_write, &to_flush));
        Self {
            lines,
            flushes,
            lost,
        }
    }

    fn log(&self, line: &[u8]) {
        if self.lines.try_send(line.to_vec()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self, limit: Duration) {
        let (done, is_done) = bounded(1);
        if self.flushes.send(done).is_ok() {
            // If it takes too long, the end of the process is worth more than the lines.
            let _ = is_done.recv_timeout(limit);
        }
    }
}

/// One event, which the formatter writes at once.
struct Line(Logs);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.log(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer<W> {
    output: W,
    lost: Arc<AtomicU64>,
}

impl<W: Write> Writer<W> {
    fn run(mut self, lines: &Receiver<Vec<u8>>, flushes: &Receiver<Sender<()>>) {
        loop {
            crossbeam_channel::select_biased! {
                recv(lines) -> line => match line {
                    Ok(line) => self.write(&line),
                    Err(_) => return,
                },
                // Lines come first: none is left when a flush is answered. Maybe nobody waits any more.
                recv(flushes) -> done => if let Ok(done) = done {
                    let _ = done.try_send(());
                },
            }
        }
    }

    fn write(&mut self, line: &[u8]) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let told = if lost > 0 {
            let text = format!("osync: {lost} lines of the log could not be written here\n");
            self.output.write_all(text.as_bytes())
        } else {
            Ok(())
        };
        let left = match told {
            Ok(()) => u64::from(self.output.write_all(line).is_err()),
            Err(_) => lost + 1,
        };
        self.lost.fetch_add(left, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// What a test reads, and whether writing fails or waits until it may go on.
    #[derive(Clone, Default)]
    struct Output {
        text: Arc<Mutex<Vec<u8>>>,
        fails: Arc<Mutex<bool>>,
    }

    impl Output {
        fn text(&self) -> String {
            String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if *self.fails.lock().unwrap() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.text.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_fail_are_counted_and_told_of() {
        let output = Output::default();
        let logs = Logs::to(output.clone());
        *output.fails.lock().unwrap() = true;
        for _ in 0..3 {
            logs.log(b"lost\n");
        }
        logs.flush(LIMIT);
        *output.fails.lock().unwrap() = false;
        logs.log(b"written\n");
        logs.flush(LIMIT);
        let expected = "osync: 3 lines of the log could not be written here\nwritten\n";
        assert_eq!(output.text(), expected);
    }

    #[test]
    fn nobody_waits_for_a_reader_that_has_stopped() {
        let output = Output::default();
        let logs = Logs::to(output.clone());
        {
            // The first line waits here, as in a terminal that is halted.
            let _halted = output.fails.lock().unwrap();
            for _ in 0..LINES_MAX * 2 {
                logs.log(b"line\n");
            }
            logs.flush(Duration::from_millis(1));
        }
        logs.log(b"last\n");
        logs.flush(LIMIT);
        let text = output.text();
        assert!(
            text.contains("lines of the log could not be written"),
            "{text}"
        );
        // One line may be with the writer beside those that wait.
        let written = text.matches("line\n").count();
        assert!(written <= LINES_MAX + 1, "{written}");
    }
}
