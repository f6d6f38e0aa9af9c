//! The liveness token: proof that a participant lives, held by its process's address space.
//!
//! A living participant `i` holds a **write** lock on byte `2^62 + i` of the store's control file, far behind
//! the end of it. *No write lock on the byte* means *that process can no longer store to the ring*. The lock
//! is an open-file-description lock, and the open file it belongs to is kept by a mapping of one page and
//! nothing else:
//!
//! 1. open a fresh descriptor, lock the byte through it;
//! 2. map one page through it, `MADV_DONTFORK`, and close it;
//! 3. look from another descriptor whether the byte is still locked.
//!
//! So the lock outlives a pause and the closing of descriptors, is not inherited by a forked child,
//! and goes at exec and at death, when the kernel has torn the address space down. There is no process id,
//! which another namespace or a reuse makes wrong, and no heartbeat, which a pause makes wrong.
//!
//! Step 3 fails on overlayfs, whose mappings hold the file of the layer below. There the descriptor is kept
//! open, in a [`LockFile`], which a forked child closes. Step 3 alone would not do: a child that
//! `posix_spawn` is about to make has a copy of the descriptor until it execs, and while it does, the byte
//! reads locked although the mapping does not hold it. So the file system must also be one that is known to.
//!
//! What is left is one case: a child made by a bare `clone` system call, past the C library and its fork
//! hooks, that does not exec. Made during steps 1 and 2, or any time where the descriptor is kept, it keeps
//! its dead parent's token alive until it ends.
//!
//! Whoever **recovers** the work of a dead `i` holds a **read** lock on the same byte ([`begin_recovery`]):
//! several may do so at once, since every step of a recovery is a compare-and-swap, and a paused one stops
//! nobody. While any of them is at it, nobody can take the index anew.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use crate::StoreError;
use crate::sys::files::{Dir, io_error, mapping_holds_file, open_raw};
use crate::sys::fork::{ForkGuard, ForkPause, LockFile, pause_forks};
use crate::sys::lock;
use crate::sys::mapping::Mapping;

/// The byte of participant 0.
const FIRST: u64 = 1 << 62;

pub(crate) fn byte_of(index: u16) -> u64 {
    FIRST + u64::from(index)
}

/// Which file it is, whatever its name: device and inode. A store that was removed and made anew
/// differs in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The identity of an open file.
    pub(crate) fn of(file: &File) -> io::Result<FileId> {
        let found = file.metadata()?;
        Ok(FileId { device: found.dev(), inode: found.ino() })
    }
}

/// Keeps a participant alive in the eyes of all others, until it is dropped or the process is no more.
#[derive(Debug)]
pub(crate) struct Token {
    #[cfg_attr(not(test), expect(dead_code, reason = "held for its destructor"))]
    hold: Hold,
    file: FileId,
}

/// What keeps the open file and so the lock: there to be dropped.
#[derive(Debug)]
enum Hold {
    Mapping(#[expect(dead_code, reason = "held for its destructor")] Mapping),
    Descriptor(#[expect(dead_code, reason = "held for its destructor")] LockFile),
}

impl Token {
    /// Becomes participant `index`. `None` if somebody holds the byte: a living participant, or one
    /// who recovers a dead one.
    pub(crate) fn take(dir: &Dir, control_name: &str, index: u16) -> Result<Option<Token>, StoreError> {
        let pin = |holds| if holds { Pin::Mapping } else { Pin::Descriptor };
        mapping_holds_file(dir)
            .and_then(|holds| take(dir, control_name, index, pin(holds)))
            .map_err(io_error("taking a participant's lock in", &dir.path().join(control_name)))
    }

    /// Whether the token needs no descriptor.
    #[cfg(test)]
    pub(crate) fn pinned_by_mapping(&self) -> bool {
        matches!(self.hold, Hold::Mapping(_))
    }

    /// The file the lock is on.
    pub(crate) fn file_id(&self) -> FileId {
        self.file
    }
}

/// What is to keep the open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pin {
    /// A mapping where that works, else a descriptor.
    Mapping,
    /// A descriptor.
    Descriptor,
}

fn take(dir: &Dir, control_name: &str, index: u16, pin: Pin) -> io::Result<Option<Token>> {
    // Until the lock is kept by what a child does not inherit, there must be no child.
    let mut pause = pause_forks()?;
    let file = open_raw(dir, control_name, true)?;
    if !lock::try_write(file.as_fd(), byte_of(index))? {
        return Ok(None);
    }
    let id = FileId::of(&file)?;
    if pin == Pin::Descriptor {
        let hold = Hold::Descriptor(LockFile::new(file, byte_of(index), &mut pause)?);
        return Ok(Some(Token { hold, file: id }));
    }
    // One byte is one page.
    let mapping = Mapping::map_read_only(&file, 1, Arc::new(ForkGuard::new()?))?;
    drop(file);
    let probe = open_raw(dir, control_name, false)?;
    if lock::write_locked(probe.as_fd(), byte_of(index))? {
        return Ok(Some(Token { hold: Hold::Mapping(mapping), file: id }));
    }
    drop((probe, mapping, pause));
    // The lock was lost in between, so somebody else may have it now.
    take(dir, control_name, index, Pin::Descriptor)
}

/// Looks whether participants are dead.
#[derive(Debug)]
pub(crate) struct Probe {
    file: File,
}

impl Probe {
    /// Opens the control file once, to be asked often.
    pub(crate) fn open(dir: &Dir, control_name: &str) -> Result<Probe, StoreError> {
        let path = dir.path().join(control_name);
        let file = open_raw(dir, control_name, false).map_err(io_error("opening", &path))?;
        Ok(Probe { file })
    }

    /// Whether no living process is participant `index`: dead, or never there. One system call. What it
    /// stored before its death is visible after this.
    pub(crate) fn is_dead(&self, index: u16) -> io::Result<bool> {
        Ok(!lock::write_locked(self.file.as_fd(), byte_of(index))?)
    }

    /// The file that is asked about.
    pub(crate) fn file_id(&self) -> io::Result<FileId> {
        FileId::of(&self.file)
    }
}

/// Keeps the index of a dead participant from being taken while its work is recovered.
#[derive(Debug)]
pub(crate) struct RecoveryGuard {
    _lock: LockFile,
}

/// Begins to recover dead participant `index`; others may be at it too. `None` if the participant is alive.
pub(crate) fn begin_recovery(dir: &Dir, control_name: &str, index: u16) -> io::Result<Option<RecoveryGuard>> {
    let mut pause: ForkPause = pause_forks()?;
    let file = open_raw(dir, control_name, false)?;
    if !lock::try_read(file.as_fd(), byte_of(index))? {
        return Ok(None);
    }
    Ok(Some(RecoveryGuard { _lock: LockFile::new(file, byte_of(index), &mut pause)? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::waitpid;
    use nix::unistd::{ForkResult, Pid, fork, pause};
    use std::fs;
    use std::io::{BufRead, BufReader, Read};
    use std::path::Path;
    use std::process::{Child, ChildStdout, Command, Stdio};
    use std::time::{Duration, Instant};

    const CONTROL: &str = "control";

    /// Where the child process of these tests finds its store, and how it pins.
    const STORE: &str = "RINGWAY_TOKEN_TEST_STORE";
    const PIN: &str = "RINGWAY_TOKEN_TEST_PIN";
    const THEN: &str = "RINGWAY_TOKEN_TEST_THEN";

    fn store() -> (tempfile::TempDir, Dir) {
        // Where stores lie by default.
        let place = tempfile::tempdir_in("/dev/shm").expect("directory");
        fs::write(place.path().join(CONTROL), [0; 4096]).expect("write");
        let dir = Dir::open(place.path()).expect("open");
        (place, dir)
    }

    fn probe(dir: &Dir) -> Probe {
        Probe::open(dir, CONTROL).expect("probe")
    }

    fn is_dead(dir: &Dir, index: u16) -> bool {
        probe(dir).is_dead(index).expect("is_dead")
    }

    /// Waits until `index` is dead.
    fn await_death(dir: &Dir, index: u16) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let probe = probe(dir);
        while !probe.is_dead(index).expect("is_dead") {
            assert!(Instant::now() < deadline, "the lock of {index} is still held");
            std::thread::yield_now();
        }
    }

    /// A process of its own that is participant 7.
    struct Holder {
        process: Child,
        output: BufReader<ChildStdout>,
    }

    impl Holder {
        /// Starts one that takes its token with this pin, then does as `then` says.
        fn start(store: &Path, pin: &str, then: &str) -> Holder {
            let mut process = Command::new(std::env::current_exe().expect("this program"))
                .args(["--exact", "participant::token::tests::holder_process", "--nocapture"])
                .envs([(STORE, store.as_os_str()), (PIN, pin.as_ref()), (THEN, then.as_ref())])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("start the holder");
            let mut output = BufReader::new(process.stdout.take().expect("its output"));
            let mut line = String::new();
            while !line.contains("holding") {
                line.clear();
                assert_ne!(output.read_line(&mut line).expect("read"), 0, "the holder ended early");
            }
            Holder { process, output }
        }

        fn signal(&self, signal: Signal) {
            kill(self.pid(), signal).expect("kill");
        }

        fn pid(&self) -> Pid {
            Pid::from_raw(i32::try_from(self.process.id()).expect("pid"))
        }

        fn kill(mut self) {
            self.process.kill().expect("kill");
            self.process.wait().expect("wait");
        }
    }

    /// Not a test by itself: the body of the processes that the tests start.
    #[test]
    fn holder_process() {
        let Some(store) = std::env::var_os(STORE) else { return };
        let pin =
            if std::env::var(PIN).as_deref() == Ok("descriptor") { Pin::Descriptor } else { Pin::Mapping };
        let dir = Dir::open(store).expect("open");
        let token = take(&dir, CONTROL, 7, pin).expect("take").expect("free");
        println!("\nholding");
        match std::env::var(THEN).as_deref() {
            Ok("exec") => {
                let error = std::os::unix::process::CommandExt::exec(
                    Command::new("/bin/sh").args(["-c", "echo execed; read line"]),
                );
                panic!("{error}");
            }
            Ok("fork") => {
                // SAFETY: the child only waits to be killed.
                match unsafe { fork() }.expect("fork") {
                    ForkResult::Child => loop {
                        pause();
                    },
                    ForkResult::Parent { child } => println!("forked {child}"),
                }
            }
            _ => {}
        }
        // Until the starter goes away or says so.
        let _ = std::io::stdin().read(&mut [0]);
        drop(token);
    }

    #[test]
    fn a_token_holds_without_a_descriptor_until_it_is_dropped() {
        let (_place, dir) = store();
        assert!(is_dead(&dir, 3), "never taken");
        let token = Token::take(&dir, CONTROL, 3).expect("take").expect("free");
        assert_eq!(token.file_id(), probe(&dir).file_id().expect("file id"));
        assert!(token.pinned_by_mapping());
        assert!(!is_dead(&dir, 3));
        assert!(is_dead(&dir, 2) && is_dead(&dir, 4), "the neighbours are not held");
        assert!(Token::take(&dir, CONTROL, 3).expect("take").is_none());
        assert!(!is_dead(&dir, 3), "closing another descriptor of the file does not free it");
        drop(token);
        // A process that another test spawns may have a copy of the descriptor until it execs.
        await_death(&dir, 3);
        assert!(Token::take(&dir, CONTROL, 3).expect("take").is_some());
    }

    #[test]
    fn the_fall_back_holds_by_its_descriptor() {
        let (_place, dir) = store();
        let token = take(&dir, CONTROL, 3, Pin::Descriptor).expect("take").expect("free");
        assert!(!token.pinned_by_mapping());
        assert!(!is_dead(&dir, 3));
        drop(token);
        assert!(is_dead(&dir, 3));
    }

    #[test]
    fn a_killed_process_is_dead_and_a_paused_one_is_not() {
        for pin in ["mapping", "descriptor"] {
            let (place, dir) = store();
            let holder = Holder::start(place.path(), pin, "wait");
            assert!(!is_dead(&dir, 7));
            holder.signal(Signal::SIGSTOP);
            let stopped = Some(nix::sys::wait::WaitPidFlag::WUNTRACED);
            waitpid(holder.pid(), stopped).expect("waitpid");
            assert!(!is_dead(&dir, 7), "pinned by {pin}");
            assert!(Token::take(&dir, CONTROL, 7).expect("take").is_none());
            assert!(begin_recovery(&dir, CONTROL, 7).expect("recovery").is_none());
            holder.signal(Signal::SIGCONT);
            assert!(!is_dead(&dir, 7));
            holder.kill();
            await_death(&dir, 7);
        }
    }

    #[test]
    fn a_forked_child_does_not_inherit_it() {
        for pin in ["mapping", "descriptor"] {
            let (place, dir) = store();
            let mut holder = Holder::start(place.path(), pin, "fork");
            let mut line = String::new();
            holder.output.read_line(&mut line).expect("read");
            let child: i32 = line.trim().trim_start_matches("forked ").parse().expect("pid of the child");
            assert!(!is_dead(&dir, 7), "the fork does not take it away either");
            holder.kill();
            await_death(&dir, 7);
            kill(Pid::from_raw(child), None).expect("the child outlives its parent");
            kill(Pid::from_raw(child), Signal::SIGKILL).expect("kill");
        }
    }

    #[test]
    fn exec_ends_it() {
        for pin in ["mapping", "descriptor"] {
            let (place, dir) = store();
            let mut holder = Holder::start(place.path(), pin, "exec");
            let mut line = String::new();
            holder.output.read_line(&mut line).expect("read");
            assert_eq!(line, "execed\n");
            assert!(is_dead(&dir, 7), "pinned by {pin}");
            holder.kill();
        }
    }

    #[test]
    fn recoverers_share_and_keep_the_index_from_being_taken() {
        let (_place, dir) = store();
        let one = begin_recovery(&dir, CONTROL, 7).expect("recovery").expect("dead");
        let two = begin_recovery(&dir, CONTROL, 7).expect("recovery").expect("dead");
        assert!(is_dead(&dir, 7), "a recoverer is not the participant");
        assert!(Token::take(&dir, CONTROL, 7).expect("take").is_none());
        drop(one);
        assert!(Token::take(&dir, CONTROL, 7).expect("take").is_none());
        drop(two);
        let token = Token::take(&dir, CONTROL, 7).expect("take").expect("free");
        assert!(begin_recovery(&dir, CONTROL, 7).expect("recovery").is_none());
        drop(token);
    }

    #[test]
    fn a_store_without_a_control_file_is_an_error() {
        let place = tempfile::tempdir().expect("directory");
        let dir = Dir::open(place.path()).expect("open");
        match Token::take(&dir, CONTROL, 1) {
            Err(StoreError::Io { path, .. }) => assert_eq!(path, place.path().join(CONTROL)),
            other => panic!("{other:?}"),
        }
        assert!(Probe::open(&dir, CONTROL).is_err());
    }
}
