//! How the allocator treats memory that was given back.

/// Bytes of freed memory that each of the allocator's arenas keeps for what comes next.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: libc::c_int = 4 << 20;

/// Makes the allocator keep the memory of messages that were sent or applied for those that follow, instead
/// of giving each back to the kernel and having new pages zeroed for the next. To be called once, at the
/// start; other allocators than that of the GNU C library stay as they are.
pub fn keep_freed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two integers, and knows these options.
    unsafe {
        // Both or neither: what is mapped for itself is always given back.
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}
