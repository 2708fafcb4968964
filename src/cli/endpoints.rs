//! The way from the command line into the endpoints.

pub use crate::sink::daemon::{Options as SinkOptions, run as run_sink};
pub use crate::source::daemon::{Listening, Options as SourceOptions, run as run_source};
