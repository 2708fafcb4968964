//! `osync rescan`: compare a subtree again.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::args::OperatorArgs;
use super::connect::connect;
use super::console::Console;
use super::operator::Operator;
use crate::channel::Channel;
use crate::config::Settings;
use crate::error::Error;
use crate::tree::{Escaped, RelPath};
use crate::wire::message::{Reply, Request};

const EXAMPLE: &str = "\
Example:
  osync rescan projects/2024     # relative to the source root
  osync rescan /srv/pool         # the whole tree";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// The top of the subtree, absolute or relative to the source root
    path: OsString,
    #[command(flatten)]
    pub(super) operator: OperatorArgs,
}

pub(super) async fn run(
    args: Args,
    settings: Settings,
    console: &mut Console,
) -> Result<(), Error> {
    let mut operator = connect(&settings.command).await?;
    let root = source_root(&mut operator).await?;
    let path = below(&root, args.path.as_bytes())?;
    operator.order(Request::Rescan { path }).await?;
    operator.close().await;
    if args.operator.json {
        console.print_json(&Reply::Done)?;
    }
    Ok(())
}

/// The source's root, as it is displayed.
pub(super) async fn source_root<C: Channel>(operator: &mut Operator<C>) -> Result<String, Error> {
    match operator.ask(Request::Status).await? {
        Reply::Status(status) => Ok(status.root),
        other => Err(operator.unexpected(&other)),
    }
}

/// A path of the operator's as a path below the root, which is known as displayed. Repeated slashes
/// and single dots mean nothing; two dots are refused, since symlinks make their meaning unclear.
pub(super) fn below(root: &str, path: &[u8]) -> Result<RelPath, Error> {
    let wrong = |reason: String| Error::Usage(format!("'{}': {reason}", Escaped(path)));
    let relative = if path.starts_with(b"/") {
        strip_root(root, path)
            .ok_or_else(|| wrong(format!("not inside the source root '{root}'")))?
    } else if path.is_empty() {
        return Err(wrong("the path is empty".into()));
    } else {
        path
    };
    let names: Vec<&[u8]> = relative
        .split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .collect();
    RelPath::new(&names.join(&b'/')).map_err(|error| wrong(error.to_string()))
}

/// What follows the root in an absolute path; `None` if it is not inside.
fn strip_root<'a>(root: &str, path: &'a [u8]) -> Option<&'a [u8]> {
    let root = root.trim_end_matches('/');
    // Escaping goes character by character, so two texts are equal only if the paths are.
    let ends = (0..=path.len()).filter(|&at| at == path.len() || path[at] == b'/');
    ends.map(|at| path.split_at(at))
        .find_map(|(top, rest)| (Escaped(top).to_string() == root).then_some(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(root: &str, path: &[u8]) -> Result<String, u8> {
        below(root, path)
            .map(|path| path.to_string())
            .map_err(|error| error.exit_code())
    }

    #[test]
    fn is_relative_to_the_root_or_inside_it() {
        let root = "/srv/a\\\\b";
        for (given, expected) in [
            (&b"x/y"[..], "x/y"),
            (b"./x//y/", "x/y"),
            (b".", "."),
            (b"/srv/a\\b", "."),
            (b"/srv/a\\b/", "."),
            (b"/srv/a\\b/x", "x"),
            (b"/srv/a\\b/\xff", "\\xff"),
        ] {
            assert_eq!(path(root, given).as_deref(), Ok(expected));
        }
        assert_eq!(path("/", b"/x").as_deref(), Ok("x"));
    }

    #[test]
    fn is_refused_outside() {
        for given in [
            &b"/srv"[..],
            b"/srv/a\\bc",
            b"/srv/a/b",
            b"../x",
            b"x/../y",
            b"",
            b"x\0",
        ] {
            assert_eq!(path("/srv/a\\\\b", given), Err(64), "{}", Escaped(given));
        }
    }
}
