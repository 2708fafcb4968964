//! The command line: one file per subcommand, and the only place that prints.
//!
//! Standard output carries results, standard error carries logs, progress and errors. The exit codes
//! are those of [`crate::error::exit`].

mod args;
mod connect;
mod console;
pub mod endpoints;
mod filters;
pub mod logging;
mod operator;
mod render;
mod signals;
mod table;

mod enqueue;
mod flush;
mod limit;
mod pause;
mod push;
mod report;
mod rescan;
mod resume;
mod sink;
mod source;
mod status;
mod stop;

use std::ffi::OsString;
use std::future::Future;

use clap::{Parser, Subcommand};

pub use self::console::Console;
use crate::config::Settings;
use crate::error::{Error, exit};

/// Replicates a huge, changing directory to another host while it is being used.
#[derive(Debug, Parser)]
#[command(
    name = "osync",
    version,
    disable_help_subcommand = true,
    // The same on every terminal, so that documents and tests can quote it.
    term_width = 80,
    subcommand_required = true,
    arg_required_else_help = false,
    after_help = "Exit codes: 0 done and equal, 1 unexpected, 2 problems left, 64 usage, \
                  69 peer unavailable, 75 try again, 78 configuration.\n\
                  'osync COMMAND --help' shows options and an example."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the source endpoint
    Source(source::Args),
    /// Run a sink endpoint
    Sink(sink::Args),
    /// Run both ends in one command
    Push(push::Args),
    /// Show where it stands, on one screen
    Status(status::Args),
    /// Show one report in full
    Report(report::Args),
    /// Return when all that happened before is durable on every sink
    Flush(flush::Args),
    /// Send nothing until resumed
    Pause(pause::Args),
    /// Go on after a pause or a halt
    Resume(resume::Args),
    /// Limit what the backlog uses in a second
    Limit(limit::Args),
    /// Compare a subtree again
    Rescan(rescan::Args),
    /// Put paths at the front of the backlog
    Enqueue(enqueue::Args),
    /// Terminate in mutual agreement
    Stop(stop::Args),
}

impl Command {
    fn settings(&self) -> Result<Settings, Error> {
        match self {
            Self::Source(args) => args.settings(),
            Self::Sink(args) => args.settings(),
            Self::Push(args) => args.settings(),
            Self::Status(args) => args.operator.settings(),
            Self::Report(args) => args.operator.settings(),
            Self::Flush(args) => args.operator.settings(),
            Self::Pause(args) => args.operator.settings(),
            Self::Resume(args) => args.operator.settings(),
            Self::Limit(args) => args.operator.settings(),
            Self::Rescan(args) => args.operator.settings(),
            Self::Enqueue(args) => args.operator.settings(),
            Self::Stop(args) => args.operator.settings(),
        }
    }

    fn run(self, settings: Settings, console: &mut Console) -> Result<(), Error> {
        match self {
            Self::Source(args) => source::run(args, settings, console),
            Self::Sink(args) => sink::run(args, settings, console),
            Self::Push(args) => push::run(args, settings, console),
            Self::Status(args) => block_on(status::run(args, settings, console)),
            Self::Report(args) => block_on(report::run(args, settings, console)),
            Self::Flush(args) => block_on(flush::run(args, settings, console)),
            Self::Pause(args) => block_on(pause::run(args, settings, console)),
            Self::Resume(args) => block_on(resume::run(args, settings, console)),
            Self::Limit(args) => block_on(limit::run(args, settings, console)),
            Self::Rescan(args) => block_on(rescan::run(args, settings, console)),
            Self::Enqueue(args) => block_on(enqueue::run(args, settings, console)),
            Self::Stop(args) => block_on(stop::run(args, settings, console)),
        }
    }
}

/// Runs one command and returns its exit code. `start_logging` is called once, when it is known how.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    console: &mut Console,
    start_logging: fn(&Settings),
) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return console.show_usage(&error),
    };
    let result = cli.command.settings().and_then(|settings| {
        start_logging(&settings);
        cli.command.run(settings, console)
    });
    logging::finish();
    match result {
        Ok(()) => exit::DONE,
        Err(error) => {
            console.show_error(&error);
            error.exit_code()
        }
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Unexpected(format!("cannot start the runtime: {error}")))?
        .block_on(work)
}

#[cfg(test)]
mod tests;
