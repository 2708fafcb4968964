//! `osync enqueue`: an operator's own path set goes to the front of the backlog.

use std::ffi::OsString;
use std::io::BufRead;
use std::os::unix::ffi::OsStringExt;

use serde::Serialize;

use super::args::OperatorArgs;
use super::connect::connect;
use super::console::Console;
use super::rescan::{below, source_root};
use crate::config::{Address, Settings};
use crate::error::Error;
use crate::tree::{PATH_BYTES_MAX, RelPath};
use crate::wire::HEADER_BYTES_MAX;
use crate::wire::message::{ENTRIES_MAX, Request};

const EXAMPLE: &str = "\
Example:
  osync enqueue projects/urgent /srv/pool/mail
  find /srv/pool -newer stamp -print0 | osync enqueue -0 -";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// Paths, absolute or relative to the source root; - reads them from standard input, one a line
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<OsString>,
    /// Paths on standard input end with a NUL instead of a newline
    #[arg(short = '0')]
    nul: bool,
    #[command(flatten)]
    pub(super) operator: OperatorArgs,
}

/// Bytes of paths in one request, with their heads: a message less some room for the rest of it.
const PATHS_BYTES_MAX: usize = HEADER_BYTES_MAX - 1024;

/// What says how long a path is.
const PATH_HEAD_BYTES: usize = 5;

#[derive(Serialize)]
struct Enqueued {
    enqueued: u64,
}

pub(super) async fn run(
    args: Args,
    settings: Settings,
    console: &mut Console,
) -> Result<(), Error> {
    let mut operator = connect(&settings.command).await?;
    let root = source_root(&mut operator).await?;
    operator.close().await;
    let mut batch = Batch {
        source: settings.command,
        paths: Vec::new(),
        bytes: 0,
        sent: 0,
    };
    for path in args.paths {
        if path == "-" {
            let end = if args.nul { 0 } else { b'\n' };
            batch.add_all(&root, &mut console.input, end).await?;
        } else {
            batch.add(below(&root, &path.into_vec())?).await?;
        }
    }
    batch.send().await?;
    if args.operator.json {
        console.print_json(&Enqueued {
            enqueued: batch.sent,
        })?;
    }
    Ok(())
}

/// Paths on their way to the source, as many in a request as the protocol allows.
struct Batch {
    source: Address,
    paths: Vec<RelPath>,
    /// What the paths take in the request.
    bytes: usize,
    sent: u64,
}

impl Batch {
    /// Adds the paths that a program writes, however slowly.
    async fn add_all(&mut self, root: &str, input: &mut dyn BufRead, end: u8) -> Result<(), Error> {
        let mut at = 0u64;
        while let Some(path) = next_path(input, end)? {
            at += 1;
            if !path.is_empty() {
                let place = |error| Error::Usage(format!("standard input, path {at}: {error}"));
                self.add(below(root, &path).map_err(place)?).await?;
            }
        }
        Ok(())
    }

    async fn add(&mut self, path: RelPath) -> Result<(), Error> {
        if !self.has_room_for(&path) {
            self.send().await?;
        }
        self.put(path);
        Ok(())
    }

    fn has_room_for(&self, path: &RelPath) -> bool {
        self.paths.len() < ENTRIES_MAX && self.bytes + taken_by(path) <= PATHS_BYTES_MAX
    }

    fn put(&mut self, path: RelPath) {
        self.bytes += taken_by(&path);
        self.paths.push(path);
    }

    /// Sends what is there, on a connection of its own: while the next paths are awaited, nobody
    /// could answer the source.
    async fn send(&mut self) -> Result<(), Error> {
        if self.paths.is_empty() {
            return Ok(());
        }
        let paths = std::mem::take(&mut self.paths);
        self.bytes = 0;
        self.sent += paths.len() as u64;
        let mut operator = connect(&self.source).await?;
        operator.order(Request::Enqueue { paths }).await?;
        operator.close().await;
        Ok(())
    }
}

fn taken_by(path: &RelPath) -> usize {
    path.len() + PATH_HEAD_BYTES
}

/// The next path and no more than a path can have; `None` at the end of the input.
fn next_path(input: &mut dyn BufRead, end: u8) -> Result<Option<Vec<u8>>, Error> {
    let bytes_max = 2 * PATH_BYTES_MAX;
    let mut path = Vec::new();
    let read = std::io::Read::take(input, bytes_max as u64)
        .read_until(end, &mut path)
        .map_err(|error| Error::io("read", "standard input", error))?;
    if path.last() == Some(&end) {
        path.pop();
    } else if read == bytes_max {
        return Err(Error::Usage(
            "standard input: a path is too long; is -0 missing?".into(),
        ));
    }
    Ok((read > 0).then_some(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode_command;
    use crate::wire::message::Command;

    #[test]
    fn long_paths_take_several_requests() {
        for (length, fit) in [(4000, 100..300), (10, ENTRIES_MAX..ENTRIES_MAX + 1)] {
            let path = RelPath::new(&b"0123456789/".repeat(length)[..length]).expect("a path");
            let mut batch = Batch {
                source: Address::loopback(1),
                paths: Vec::new(),
                bytes: 0,
                sent: 0,
            };
            while batch.has_room_for(&path) {
                batch.put(path.clone());
            }
            let paths = batch.paths;
            assert!(fit.contains(&paths.len()), "{}", paths.len());
            let request = Request::Enqueue { paths };
            let frames = encode_command(&Command::Request { id: 1, request });
            assert!(frames[0].len() <= HEADER_BYTES_MAX);
        }
    }

    fn paths(input: &[u8], end: u8) -> Result<Vec<Vec<u8>>, u8> {
        let mut input = input;
        std::iter::from_fn(|| {
            next_path(&mut input, end)
                .map_err(|e| e.exit_code())
                .transpose()
        })
        .collect()
    }

    #[test]
    fn reads_lines_or_nul_separated_paths() {
        assert_eq!(
            paths(b"a\nb c\n\nd", b'\n').expect("paths"),
            [&b"a"[..], b"b c", b"", b"d"]
        );
        assert_eq!(paths(b"a\nb\0c\0", 0).expect("paths"), [&b"a\nb"[..], b"c"]);
        assert_eq!(paths(b"", 0).expect("paths"), [b""; 0]);
        assert_eq!(paths(&vec![b'x'; 4 * PATH_BYTES_MAX], 0), Err(64));
    }
}
