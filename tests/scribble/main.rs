//! Processes that write where the protocol does not let them.
//!
//! A hostile process that can write to a store's files may lose and delay messages. It must not crash anyone,
//! nor keep anyone in a call for ever, nor make anyone take memory without end. Two proofs:
//!
//! - [`a_scribbler_crashes_nobody`]: one process writes random bits over every word of the control file and
//!   the queue file, while others do everything there is to do. `SCRIBBLE_OPERATIONS` and `SCRIBBLE_SEED` set
//!   the size and the seed.
//! - [`no_flipped_bit_crashes_anyone`]: each kind of word there is, one bit flipped, then everything there is
//!   to do. `SCRIBBLE_BITS=all` flips each of the 64, by default it is an eighth of them.
//!
//! A victim that is in a call for more than some seconds is ended by its alarm clock, one that takes too much
//! memory by its limit of address space; both, like a panic, fail the test. The victims are this binary
//! started anew.

#![cfg(target_os = "linux")]

mod layout;
mod victim;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use memmap2::MmapMut;
use ringway::{Queue, Store};

use layout::{CAPACITY, GROUPS, MAX_MESSAGE, SLOT_SIZE, Word};

/// Operations of each victim.
const OPERATIONS: u64 = 2_500;

const VICTIMS: u64 = 3;

/// What the end of a child may mean.
const CLOCK: &str = "signal 14 is its alarm clock: a call took too long";

const PART: &str = "RINGWAY_SCRIBBLE_PART";
const STORE: &str = "RINGWAY_SCRIBBLE_STORE";
const SEED: &str = "RINGWAY_SCRIBBLE_CHILD_SEED";

/// SplitMix64 (Steele et al. 2014): small, and good enough to scribble with.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

fn setting(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

pub(crate) fn make_queue(store: &Store) -> Queue {
    Queue::options()
        .capacity(CAPACITY as u32)
        .slot_size(SLOT_SIZE as u32)
        .max_message(MAX_MESSAGE as u32)
        .max_groups(GROUPS as u32)
        .open_or_create(store, "q")
        .expect("the queue, before anybody scribbles")
}

/// Starts this binary as something else.
fn start(part: &str, store: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "child_process", "--nocapture", "--test-threads=1"])
        .envs([(PART, part), (SEED, &seed.to_string())])
        .env(STORE, store)
        .stdout(Stdio::piped())
        .spawn()
        .expect("start a child")
}

/// Not a test by itself: what the children run.
#[test]
fn child_process() {
    let (Ok(part), Some(store)) = (std::env::var(PART), std::env::var_os(STORE)) else { return };
    let (store, seed) = (Path::new(&store), setting(SEED, 0));
    match part.as_str() {
        "victim" => victim::work(store, seed, setting("SCRIBBLE_OPERATIONS", OPERATIONS)),
        "scribbler" => scribble(store, seed),
        index => flip(store, index.parse().expect("a kind of word")),
    }
}

#[test]
fn a_scribbler_crashes_nobody() {
    let place = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let path = place.path().join("store");
    let store = Store::create(&path).expect("create the store");
    make_queue(&store);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let seed = setting("SCRIBBLE_SEED", now);
    let mut scribbler = start("scribbler", &path, seed);
    let victims: Vec<Child> =
        (1..=VICTIMS).map(|index| start("victim", &path, seed.wrapping_add(index))).collect();
    let ends: Vec<_> = victims.into_iter().map(|victim| victim.wait_with_output().expect("wait")).collect();
    let scribbling = scribbler.try_wait().expect("look at the scribbler").is_none();
    scribbler.kill().expect("end the scribbler");
    scribbler.wait().expect("wait");
    // The scribbler may have been at any word when it ended.
    drop(store);
    assert!(scribbling, "the scribbler ended first");
    for end in ends {
        let status = end.status;
        assert!(status.success(), "a victim ended with {status}; SCRIBBLE_SEED={seed} ({CLOCK})");
        let said = String::from_utf8_lossy(&end.stdout).into_owned();
        let line = said.lines().find_map(|line| line.split_once(victim::REPORT)).expect("a victim's report");
        println!("SCRIBBLE {}", line.1);
    }
}

/// Maps a file as anybody could who may write to it.
fn map(path: &Path) -> MmapMut {
    let file = std::fs::File::options().read(true).write(true).open(path).expect("open");
    // SAFETY: nobody truncates the file; what is in it is only accessed by atomics.
    unsafe { MmapMut::map_mut(&file) }.expect("map")
}

fn word(file: &MmapMut, at: u64) -> &AtomicU64 {
    assert!(at.is_multiple_of(8) && at + 8 <= file.len() as u64);
    // SAFETY: inside the mapping and aligned; shared with others as atomics only.
    unsafe { AtomicU64::from_ptr(file.as_ptr().cast_mut().add(at as usize).cast()) }
}

/// Writes nonsense until it is killed.
fn scribble(store: &Path, seed: u64) {
    let mut random = Random(seed);
    let files = [map(&store.join("control")), map(&store.join("queues/q"))];
    let reach = [files[0].len() as u64, layout::EXTENTS];
    loop {
        // In bursts, so that the victims also get somewhere.
        for _ in 0..random.below(64) {
            let file = usize::from(random.below(8) != 0);
            let at = if file == 1 && random.below(2) == 0 {
                layout::WORDS[random.below(layout::WORDS.len() as u64) as usize].random(&mut random)
            } else {
                random.below(reach[file] / 8) * 8
            };
            let word = word(&files[file], at);
            let seen = word.load(Relaxed);
            let value = nonsense(seen, &mut random);
            if layout::removes(file, at, value) {
                continue;
            }
            word.store(value, Relaxed);
            if layout::is_vital(file, at) {
                // Nobody would get anywhere while this is wrong.
                pause(random.below(20_000));
                word.store(seen, Relaxed);
            }
        }
        pause(random.below(20_000));
    }
}

fn pause(spins: u64) {
    for _ in 0..spins {
        std::hint::spin_loop();
    }
}

fn nonsense(seen: u64, random: &mut Random) -> u64 {
    match random.below(8) {
        0..4 => seen ^ 1 << random.below(64),
        4 => random.next(),
        5 => seen.wrapping_add(random.below(5)).wrapping_sub(2),
        6 => [0, 1, u64::MAX, 1 << 63, 1 << 32, u64::MAX - 4095][random.below(6) as usize],
        _ => seen.wrapping_add(random.below(9) << 32),
    }
}

#[test]
fn no_flipped_bit_crashes_anyone() {
    let place = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let kinds = layout::WORDS.len() + layout::CONTROL.len();
    // A few at a time: the machine may have few processors.
    let mut running: Vec<(usize, Child)> = Vec::new();
    for index in 0..kinds {
        running.push((index, start(&index.to_string(), &place.path().join(index.to_string()), 0)));
        if running.len() == 3 || index + 1 == kinds {
            for (index, child) in running.drain(..) {
                let end = child.wait_with_output().expect("wait").status;
                assert!(
                    end.success(),
                    "{}: a bit flipped, and the child ended with {end} ({CLOCK})",
                    kind(index).name
                );
            }
        }
    }
}

/// A kind of word, counted through both files.
fn kind(index: usize) -> &'static Word {
    layout::WORDS.get(index).unwrap_or_else(|| &layout::CONTROL[index - layout::WORDS.len()])
}

/// What a child runs: flips the bits of one kind of word, one by one, and does everything after each.
fn flip(path: &Path, index: usize) {
    let kind = kind(index);
    let all = std::env::var("SCRIBBLE_BITS").is_ok_and(|value| value == "all");
    let mut random = Random(index as u64);
    for bit in (0..64).filter(|bit| all || (bit + index).is_multiple_of(8)) {
        let store = Store::create(path).expect("create the store");
        let queue = make_queue(&store);
        let kept = victim::prepare(&queue);
        let file = map(&path.join(if index < layout::WORDS.len() { "queues/q" } else { "control" }));
        word(&file, kind.first()).fetch_xor(1 << bit, Relaxed);
        println!("{}: bit {bit}", kind.name);
        victim::everything(path, &store, &queue, &mut random);
        drop(kept);
        drop((queue, store));
        // Removing may be refused for what the bit says; the files go all the same.
        if Store::remove(path).is_err() {
            std::fs::remove_dir_all(path).expect("rm -r");
        }
    }
}
