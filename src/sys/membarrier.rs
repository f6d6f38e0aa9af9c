//! A memory barrier on every running thread of the host that registered for it.
//!
//! The side of a protocol that runs often leaves its own barrier out, and the side that runs seldom (about
//! to sleep) calls [`global`] instead. It reaches all threads of all processes that called
//! [`register`], whatever container they are in. Where the kernel has it not, or a sandbox forbids it,
//! the answer is `false` and both sides use fences.

use std::sync::OnceLock;

/// Lets this process be reached by [`global`]; every process that takes part must call it before it relies
/// on it, once (again does no harm). `false` if there is no such barrier here.
pub(crate) fn register() -> bool {
    available() && membarrier(libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) == 0
}

/// Whether the kernel has the barrier. Asked once.
pub(crate) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let commands = membarrier(libc::MEMBARRIER_CMD_QUERY);
        let needed = libc::c_long::from(
            libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED | libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED,
        );
        commands >= 0 && commands & needed == needed
    })
}

/// A full barrier on every running thread of every registered process, as if each ran it between two of its
/// instructions while this call lasts. Some microseconds. `false` if it was not done.
pub(crate) fn global() -> bool {
    available() && membarrier(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED) == 0
}

fn membarrier(command: libc::c_int) -> libc::c_long {
    // SAFETY: the call takes numbers only, and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_answers_agree() {
        assert_eq!(register(), available());
        assert_eq!(global(), available());
        assert_eq!(register(), available());
    }
}
