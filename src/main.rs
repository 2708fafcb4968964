//! The `osync` program: everything it does is in the library.

use std::process::ExitCode;

use osync::allocation;
use osync::cli::{self, Console, logging};

fn main() -> ExitCode {
    allocation::keep_freed();
    ExitCode::from(cli::run(
        std::env::args_os(),
        &mut Console::standard(),
        logging::start,
    ))
}
