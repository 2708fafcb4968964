//! Copies of ranges of files, shared with the original where the file system can do that.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

/// Bytes that are copied at once where the kernel does not copy.
const BUFFER_BYTES: u64 = 128 * 1024;

/// Copies a range of one file to the same place of another. The kernel shares what both can share, and
/// copies the rest without showing it to the process.
pub(super) fn range(from: &File, to: &File, range: Range<u64>) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let (mut source, mut target) = (at, at);
        let bytes = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(copied) => at += copied as u64,
            // Not between these files, not on this file system, or not by an old kernel.
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                return by_hand(from, to, at..range.end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn by_hand(from: &File, to: &File, range: Range<u64>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES as usize];
    let mut at = range.start;
    while at < range.end {
        let bytes = BUFFER_BYTES.min(range.end - at);
        let piece = &mut buffer[..bytes as usize];
        from.read_exact_at(piece, at)?;
        to.write_all_at(piece, at)?;
        at += bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn without_the_kernel_the_same_is_copied() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let content: Vec<u8> = (0..3 * BUFFER_BYTES).map(|at| (at % 251) as u8).collect();
        from.write_all_at(&content, 0).unwrap();
        to.set_len(content.len() as u64).unwrap();
        let (start, end) = (BUFFER_BYTES - 1, 3 * BUFFER_BYTES - 5);
        by_hand(&from, &to, start..end).unwrap();
        let mut copied = vec![1; content.len()];
        to.read_exact_at(&mut copied, 0).unwrap();
        let (start, end) = (start as usize, end as usize);
        assert_eq!(copied[start..end], content[start..end]);
        assert!(
            copied[..start]
                .iter()
                .chain(&copied[end..])
                .all(|&b| b == 0)
        );
        assert!(by_hand(&from, &to, 0..4 * BUFFER_BYTES).is_err());
    }
}
