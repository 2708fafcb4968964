//! What users do to the holes of a file.

use osync::fs::memory::{Disk, Ino};
use osync::tree::RelPath;

use super::Users;

/// Bytes that a file may grow to by holes.
const SIZE_MAX: usize = 48;

impl Users {
    /// Punches a hole, fills some, or leaves one at the end.
    pub(super) fn holes(&mut self, disk: &mut Disk, ino: Ino, path: &RelPath) {
        let size = disk.content(ino).expect("it is there").len();
        let start = self.rng.below(size + 1) as u64;
        let len = 1 + self.rng.below(12) as u64;
        disk.set_writer(ino, true);
        match self.rng.below(4) {
            0 if size < SIZE_MAX => {
                self.say(&format!("extend {path} by {len}"));
                disk.truncate(ino, size as u64 + len).expect("small");
            }
            1 if size < SIZE_MAX => {
                self.say(&format!("write {path} {len} behind its end"));
                let content = self.fresh();
                disk.write_at(ino, size as u64 + len, &content)
                    .expect("room");
            }
            2 => {
                self.say(&format!("fill {path} at {start}"));
                let mut content = self.fresh();
                content.truncate(size - start as usize);
                disk.write_at(ino, start, &content).expect("room");
            }
            _ => {
                self.say(&format!("punch {path} at {start}, {len} long"));
                disk.punch(ino, start..start + len).expect("small");
            }
        }
        self.record(disk);
        disk.set_writer(ino, false);
    }
}
