//! The `osync` program: everything it does is in the library.

use std::process::ExitCode;

use osync::cli::{self, Console, logging};

fn main() -> ExitCode {
    ExitCode::from(cli::run(
        std::env::args_os(),
        &mut Console::standard(),
        logging::start,
    ))
}
