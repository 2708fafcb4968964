//! Proof that nobody has a file open for writing.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Takes a read lease and gives it back at once: the kernel grants it only while nobody has the file
/// open for writing. It needs the owner's rights or CAP_LEASE, and works through a read-only mount.
///
/// Whoever opens the file for writing in between waits for that moment (with O_NONBLOCK: fails), and
/// the kernel sends SIGIO to this process, which must ignore it: see [`ignore_lease_signal`].
pub(super) fn unwritten(file: BorrowedFd<'_>) -> Option<bool> {
    match set_lease(file, libc::F_RDLCK) {
        Ok(()) => {
            // A lease that could not be given back would end with the descriptor; the proof stands.
            let _ = set_lease(file, libc::F_UNLCK);
            Some(true)
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Some(false),
        // Not the owner (EACCES), no leases on this file system (EINVAL), or none in this kernel.
        Err(_) => None,
    }
}

fn set_lease(file: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: F_SETLEASE takes an integer and touches no memory of this process.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Makes the process ignore SIGIO, which would end it when somebody opens a file for writing in the
/// moment in which a lease on it is held. To be called once, before any file is asked about.
///
/// # Errors
/// Those of signal(2), which knows none for this signal.
pub fn ignore_lease_signal() -> io::Result<()> {
    // SAFETY: ignoring a signal installs no handler, so no code of ours runs in one.
    if unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
