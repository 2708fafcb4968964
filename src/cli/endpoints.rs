//! The way from the command line into the endpoints.

pub use crate::sink::daemon::{
    Options as SinkOptions, Target, run as run_sink, run_on as run_sink_on,
};
pub use crate::source::daemon::{Listening, Options as SourceOptions, run as run_source};
