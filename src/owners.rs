//! The users and groups of this host, as its files name them.
//!
//! Only `/etc/passwd` and `/etc/group` are read. What a directory service knows (LDAP, SSSD) has the same
//! numbers on all its hosts, so it may as well keep them.

use std::io;
use std::path::Path;

use crate::error::Error;
use crate::tree::{OWNERS_MAX, OwnerTables};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The tables of this host.
///
/// # Errors
/// [`Error::Io`] if one cannot be read or is longer than 16 MiB. A missing one is empty.
pub fn of_this_host() -> Result<OwnerTables, Error> {
    Ok(OwnerTables::parse(&read(PASSWD)?, &read(GROUP)?))
}

/// The tables of this host, if they can be sent.
///
/// # Errors
/// As [`of_this_host`]; [`Error::Setting`] if they are too large to be sent.
pub fn to_send() -> Result<OwnerTables, Error> {
    let tables = of_this_host()?;
    tables.check().map_err(|what| Error::Setting {
        place: "owners".into(),
        reason: format!("{what} to match them by name (at most {OWNERS_MAX}); use numeric owners"),
    })?;
    Ok(tables)
}

fn read(path: &str) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::io("read", path, error);
    match Path::new(path).metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        Ok(_) => {}
    }
    std::fs::read(path).map_err(failed)
}
