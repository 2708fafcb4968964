//! Standard input, output and error of a command.

use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal, Write};

use serde::Serialize;

use crate::error::{Error, exit};

/// Where a command reads and prints. Tests put buffers in the place of the terminal.
pub struct Console {
    /// Standard input.
    pub input: Box<dyn BufRead>,
    /// Standard output: results.
    pub output: Box<dyn Write>,
    /// Standard error: progress and errors.
    pub error: Box<dyn Write>,
    /// True if standard error is a terminal, where one line can be updated in place.
    pub is_terminal: bool,
}

impl Console {
    /// The streams of this process.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            input: Box::new(io::stdin().lock()),
            output: Box::new(io::stdout()),
            error: Box::new(io::stderr()),
            is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Prints a result. A reader that has gone away, such as `head`, is no error.
    ///
    /// # Errors
    /// If standard output cannot be written, for instance to a full disk.
    pub fn print(&mut self, text: &str) -> Result<(), Error> {
        let written = self
            .output
            .write_all(text.as_bytes())
            .and_then(|()| self.output.flush());
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Error::io("write to", "standard output", error))
            }
            _ => Ok(()),
        }
    }

    /// Prints a value as one line of JSON.
    ///
    /// # Errors
    /// As [`Console::print`].
    pub fn print_json(&mut self, value: &impl Serialize) -> Result<(), Error> {
        let json = serde_json::to_string(value).expect("reports have text keys only");
        self.print(&format!("{json}\n"))
    }

    /// Shows progress on standard error: on a terminal in the place of the last progress.
    pub fn show_progress(&mut self, line: &str) {
        let text = if self.is_terminal {
            format!("\r{line}\x1b[K")
        } else {
            format!("{line}\n")
        };
        self.write_error(&text);
    }

    /// Leaves the last progress as it is: what follows begins on a line of its own.
    pub fn end_progress(&mut self) {
        if self.is_terminal {
            self.write_error("\n");
        }
    }

    pub(super) fn show_error(&mut self, error: &Error) {
        let hint = error
            .hint()
            .map(|hint| format!("  hint: {hint}\n"))
            .unwrap_or_default();
        self.write_error(&format!("osync: {}\n{hint}", printable(&error.to_string())));
    }

    /// Prints what clap has to say, which is help, the version, or an error, and returns the exit code.
    pub(super) fn show_usage(&mut self, error: &clap::Error) -> u8 {
        let text = error.render();
        if error.use_stderr() {
            let text = if self.is_terminal {
                text.ansi().to_string()
            } else {
                text.to_string()
            };
            self.write_error(&text);
            exit::USAGE
        } else {
            match self.print(&text.to_string()) {
                Ok(()) => exit::DONE,
                Err(error) => error.exit_code(),
            }
        }
    }

    fn write_error(&mut self, text: &str) {
        // There is nowhere left to complain to.
        let _ = self
            .error
            .write_all(text.as_bytes())
            .and_then(|()| self.error.flush());
    }
}

/// Text on one line: what a peer says may not move the cursor or change the terminal.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.into()
        }
    };
    Cow::Owned(text.chars().map(escape).collect())
}
