//! The conformance body on file systems made for it in an image: those that the host's disk has not.
//!
//! Needs root's rights, the kernel's support and the file system's tools. What is missing is said on
//! standard error, past the runner's capture.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Output};

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

use super::*;

/// Size of an image in bytes, of which only what is written takes room; mkfs.xfs wants 300 MiB.
const IMAGE_BYTES: u64 = 512 << 20;

super::conformance!(every_case, Fixture<RealFs>);

/// A mounted image, seen by this thread alone. Its end unmounts it, and with that frees the loop
/// device; the end of the thread does so in any case.
struct Mounted {
    dir: tempfile::TempDir,
}

impl Mounted {
    fn at(&self) -> PathBuf {
        self.dir.path().join("mount")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The thread ends soon, and its table of mounts with it.
        let _ = unmount(self.at(), UnmountFlags::DETACH);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let says = |output: Output| String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", says(output))),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// Makes and mounts a file system, or says why that is impossible here. Only for a thread of its own.
fn mounted(kind: &str) -> Result<Mounted, String> {
    if !is_root() {
        return Err("only root may mount".to_owned());
    }
    let dir = fresh(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tmp"));
    let mounted = Mounted { dir };
    std::fs::create_dir(mounted.at()).unwrap();
    let image = mounted.dir.path().join("image");
    File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
    let (image, at) = (image.to_str().unwrap(), mounted.at());
    run(&format!("mkfs.{kind}"), &["-q", image])?;
    // SAFETY: only this thread leaves the shared table of mounts, and no memory is affected.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(format!("unshare: {}", io::Error::last_os_error()));
    }
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).unwrap();
    let at = at.to_str().unwrap();
    run("mount", &["-t", kind, "-o", "loop", image, at])?;
    Ok(mounted)
}

/// Runs every case in a directory of its own.
fn conforms(kind: &'static str, symlink_bytes_max: usize) {
    let cases = move || match mounted(kind) {
        Ok(mounted) => {
            let at = mounted.at();
            every_case(&|| Fixture {
                symlink_bytes_max,
                ..fixture(fresh(at.to_str().unwrap()))
            });
        }
        Err(why) => {
            let said = format!("NOT TESTED: the conformance body on {kind}: {why}\n");
            std::io::stderr().write_all(said.as_bytes()).unwrap();
        }
    };
    let ended = std::thread::spawn(cases).join();
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn xfs() {
    conforms("xfs", 1023);
}

#[test]
fn btrfs() {
    conforms("btrfs", 4095);
}
