//! File systems of which not every change is reported to this host: others have them mounted too, or a
//! program makes them up.

use std::path::Path;

use rustix::fs::statfs;

use crate::tree::Escaped;

/// What the kernel calls them (`linux/magic.h` and the sources of each file system), and what people do.
const KNOWN: [(u64, &str); 12] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0BD0_0BD0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
];

/// The name of such a file system, if a directory lies on one.
fn name_at(path: &Path) -> Option<&'static str> {
    // A magic number has 32 bits, whatever the width and the sign of the field.
    let magic = statfs(path).ok()?.f_type as u64 & 0xFFFF_FFFF;
    KNOWN
        .into_iter()
        .find(|(known, _)| *known == magic)
        .map(|(_, name)| name)
}

/// True if changes below one of these directories may go unheard; the operator is told of each.
pub(super) fn any<'a>(paths: impl Iterator<Item = &'a Path>) -> bool {
    let mut any = false;
    for path in paths {
        if let Some(name) = name_at(path) {
            any = true;
            tracing::warn!(
                "'{}' lies on {name}: changes that other hosts or programs make there are not reported, \
                 and found by audits alone, which therefore come more often",
                Escaped::path(path)
            );
        }
    }
    any
}
