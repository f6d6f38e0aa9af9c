//! A state of the search: the shared words, the processes, the ghosts.

use super::automaton::At;

/// The most words that a configuration may have.
pub const WORDS: usize = 44;
/// The most processes.
pub const PROCESSES: usize = 12;
/// The most positions.
pub const POSITIONS: usize = 16;

/// Process states that are no automaton states.
pub const NOT_STARTED: At = u32::MAX;
/// It vanished.
pub const VANISHED: At = u32::MAX - 1;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct State {
    /// How many of the words are used.
    pub used: usize,
    /// The shared words.
    pub words: [u64; WORDS],
    /// Where each process stands.
    pub processes: [At; PROCESSES],
    /// What no process sees.
    pub ghost: Ghost,
}

/// How a process's owner index stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Life {
    /// In use.
    #[default]
    Alive,
    /// Its process vanished.
    Dead,
    /// Its process vanished, and all was put right.
    Recovered,
}

/// What the properties need to remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Ghost {
    /// The message that was published at each position, by number; 0: none.
    pub published: [u8; POSITIONS],
    /// Positions settled for good, per group.
    pub settled: [u16; 2],
    /// Positions whose ack was confirmed to a consumer, per group.
    pub confirmed: [u16; 2],
    /// Positions that were handed out, per group.
    pub leased: [u16; 2],
    /// Per process.
    pub lives: [Life; PROCESSES],
    /// Groups that are made.
    pub born: u8,
    /// What has happened so far.
    pub crashes: u8,
    /// What has happened so far.
    pub restarts: u8,
    /// What has happened so far.
    pub refusals: u8,
    /// The clock.
    pub now: u8,
}

impl State {
    /// All zero.
    pub fn new(used: usize) -> State {
        assert!(used <= WORDS, "a larger configuration than the model's arrays");
        State { used, words: [0; WORDS], processes: [NOT_STARTED; PROCESSES], ghost: Ghost::default() }
    }

    /// How many words a packed state takes.
    pub fn packed(used: usize) -> usize {
        used + PROCESSES / 2 + 8
    }

    /// Appends it to `to`.
    pub fn pack(&self, to: &mut Vec<u64>) {
        to.extend_from_slice(&self.words[..self.used]);
        for pair in self.processes.chunks_exact(2) {
            to.push(u64::from(pair[0]) << 32 | u64::from(pair[1]));
        }
        let ghost = &self.ghost;
        for part in ghost.published.chunks_exact(8) {
            to.push(u64::from_le_bytes(part.try_into().expect("eight bytes")));
        }
        let pair = |of: [u16; 2]| u64::from(of[0]) << 16 | u64::from(of[1]);
        to.push(pair(ghost.settled) << 32 | pair(ghost.confirmed));
        to.push(pair(ghost.leased) << 32 | u64::from(ghost.born));
        let mut lives = [0u8; 16];
        for (to, life) in lives.iter_mut().zip(ghost.lives) {
            *to = life as u8;
        }
        for part in lives.chunks_exact(8) {
            to.push(u64::from_le_bytes(part.try_into().expect("eight bytes")));
        }
        let counts = [ghost.crashes, ghost.restarts, ghost.refusals, ghost.now, 0, 0, 0, 0];
        to.push(u64::from_le_bytes(counts));
        to.push(0);
    }

    /// Reads what `pack` wrote.
    pub fn unpack(used: usize, from: &[u64]) -> State {
        let mut state = State::new(used);
        state.words[..used].copy_from_slice(&from[..used]);
        let rest = &from[used..];
        for (at, pair) in state.processes.chunks_exact_mut(2).zip(rest) {
            at.copy_from_slice(&[(pair >> 32) as u32, *pair as u32]);
        }
        let rest = &rest[PROCESSES / 2..];
        let ghost = &mut state.ghost;
        for (part, word) in ghost.published.chunks_exact_mut(8).zip(rest) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        let pair = |word: u64| [(word >> 16) as u16, word as u16];
        ghost.settled = pair(rest[2] >> 32);
        ghost.confirmed = pair(rest[2]);
        ghost.leased = pair(rest[3] >> 32);
        ghost.born = rest[3] as u8;
        let bytes = rest[4].to_le_bytes().into_iter().chain(rest[5].to_le_bytes());
        for (life, byte) in ghost.lives.iter_mut().zip(bytes) {
            *life = [Life::Alive, Life::Dead, Life::Recovered][byte as usize];
        }
        let [crashes, restarts, refusals, now, ..] = rest[6].to_le_bytes();
        (ghost.crashes, ghost.restarts, ghost.refusals, ghost.now) = (crashes, restarts, refusals, now);
        state
    }
}

/// A hash of 128 bits, of two independent lanes of folded multiplications.
pub fn hash(words: &[u64]) -> u128 {
    const fn fold(a: u64, b: u64) -> u64 {
        let product = a as u128 * b as u128;
        product as u64 ^ (product >> 64) as u64
    }
    let (mut left, mut right) = (0x243f_6a88_85a3_08d3u64, 0x1319_8a2e_0370_7344u64);
    for &word in words {
        left = fold(left ^ word, 0x9e37_79b9_7f4a_7c15).wrapping_add(0xa409_3822_299f_31d0);
        right = fold(right.rotate_left(23) ^ word, 0xd6e8_feb8_6659_fd93).wrapping_add(0x082e_fa98_ec4e_6c89);
    }
    let (left, right) =
        (fold(left ^ 0xe703_7ed1_a0b4_28db, right | 1), fold(right, 0x8ebc_6af0_9c88_c6e3) ^ left);
    u128::from(left) << 64 | u128::from(right)
}
