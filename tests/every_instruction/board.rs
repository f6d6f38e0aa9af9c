//! What a victim can tell when it cannot speak any more: a page shared with the one who kills it.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// How an operation ended for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Told {
    /// It did not return.
    Nothing = 0,
    /// It succeeded.
    Done = 1,
    /// The lease was lost.
    LeaseLost = 2,
    /// There was nothing to receive.
    Empty = 3,
    /// Something else. Never right here.
    Refused = 4,
}

/// The shared page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Board {
    word: &'static AtomicU32,
}

impl Board {
    /// A page that forked children share with their parent.
    pub(crate) fn new() -> Board {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice; never unmapped, zeroed, and only
        // used through the atomic.
        let word = unsafe {
            let at = libc::mmap(
                std::ptr::null_mut(),
                4096,
                protection,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(at, libc::MAP_FAILED, "a shared page");
            &*at.cast::<AtomicU32>()
        };
        Board { word }
    }

    /// Wipes it, before the next victim.
    pub(crate) fn clear(self) {
        self.word.store(0, SeqCst);
    }

    /// The operation returned this.
    pub(crate) fn tell(self, told: Told) {
        self.word.store(told as u32, SeqCst);
    }

    /// What the operation returned.
    pub(crate) fn told(self) -> Told {
        match self.word.load(SeqCst) {
            0 => Told::Nothing,
            1 => Told::Done,
            2 => Told::LeaseLost,
            3 => Told::Empty,
            _ => Told::Refused,
        }
    }

    /// Whether it returned.
    pub(crate) fn is_over(self) -> bool {
        self.told() != Told::Nothing
    }
}
