//! The background: a thread that gives way to whatever else the host has to do.

use std::io;

/// Lowest priority on the processor.
const NICE: i32 = 19;

/// From `linux/ioprio.h`: of one thread, the class that is served when nobody else asks.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
const IOPRIO_CLASS_IDLE: libc::c_int = 3;
const IOPRIO_CLASS_SHIFT: libc::c_int = 13;

/// Has the calling thread give way: the lowest priority on the processor, and the idle class of input and
/// output, which the disk's scheduler honours if it knows classes (bfq does, none does not). What the kernel
/// refuses is logged, and the thread works on as it is.
pub fn give_way() {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default();
    // To Linux, no process is the calling thread.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!("{name} keeps its priority on the processor: {error}");
    }
    if let Err(error) = set_io_class(IOPRIO_CLASS_IDLE) {
        tracing::warn!("{name} keeps its priority of input and output: {error}");
    }
}

fn set_io_class(class: libc::c_int) -> io::Result<()> {
    let priority = class << IOPRIO_CLASS_SHIFT;
    // SAFETY: the call takes three numbers, and 0 is the calling thread.
    let set = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nice value and the class of input and output of the calling thread.
    fn priorities() -> (i32, libc::c_long) {
        let nice = rustix::process::getpriority_process(None).expect("one's own");
        // SAFETY: the call takes two numbers, and 0 is the calling thread.
        let io = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) };
        (nice, io >> IOPRIO_CLASS_SHIFT)
    }

    #[test]
    fn the_calling_thread_alone_gives_way() {
        let before = priorities();
        let thread = std::thread::spawn(|| {
            give_way();
            priorities()
        });
        let after = thread.join().expect("no panic");
        assert_eq!(after, (NICE, IOPRIO_CLASS_IDLE.into()));
        assert_eq!(priorities(), before);
    }
}
