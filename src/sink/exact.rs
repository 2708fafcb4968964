//! Names on a target that takes different ones for the same (rule 39).
//!
//! There a look-up of `a` may find `A`. So before a name is used, the bytes that the directory holds are
//! compared: a new name never replaces another one, and only what has exactly the name is removed. That
//! lists a directory for each name, and asks for one applier at a time.

use std::io;

use crate::fs::Fs;
use crate::tree::{Name, RelPath};

/// What is found under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// An entry with exactly this name.
    Exactly,
    /// An entry with another name that the target takes for this one.
    Another,
    /// Nothing.
    Nothing,
}

/// What is found under a name.
pub(super) fn held<F: Fs>(fs: &F, dir: &F::Dir, name: &Name) -> io::Result<Held> {
    match fs.stat(dir, name) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Held::Nothing),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    let mut is_held = false;
    fs.list(dir, &mut |held, _| is_held |= held == name.as_bytes())?;
    Ok(if is_held {
        Held::Exactly
    } else {
        Held::Another
    })
}

/// True if each directory on the way to this one, itself included, has exactly its name.
pub(super) fn is_way_exact<F: Fs>(fs: &F, path: &RelPath) -> io::Result<bool> {
    let mut dir = fs.root()?;
    for part in path.components() {
        let name = Name::new(part).expect("a component of a valid path is a name");
        if held(fs, &dir, &name)? != Held::Exactly {
            return Ok(false);
        }
        dir = fs.open_dir(&dir, &name)?;
    }
    Ok(true)
}
