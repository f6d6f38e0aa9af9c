//! Where the words are, as docs/FORMAT.md has it: an attacker can read it, too.

use super::Random;

pub(crate) const CAPACITY: u64 = 1024;
pub(crate) const SLOT_SIZE: u64 = 64;
pub(crate) const MAX_MESSAGE: u64 = 4096;
pub(crate) const GROUPS: u64 = 2;

const PAGE: u64 = 4096;
const QUEUE_WORDS: u64 = PAGE;
const GROUP_WORDS: u64 = 2 * PAGE;
const ATTACHMENTS: u64 = GROUP_WORDS + PAGE;
const CLAIMS: u64 = ATTACHMENTS + 1024 * 64;
const EXTENT_WORDS: u64 = CLAIMS + CAPACITY * 8;
const LEDGERS: u64 = EXTENT_WORDS + CAPACITY * 8;
const DUE: u64 = CAPACITY * 8;
const RETURNED: u64 = 2 * DUE;
const NOTES: u64 = RETURNED + PAGE;
const LEDGER_SIZE: u64 = NOTES + 64 * 256;
const SLOTS: u64 = LEDGERS + GROUPS * LEDGER_SIZE;
/// What lies before is words and short messages; from here on, long messages.
pub(crate) const EXTENTS: u64 = SLOTS + CAPACITY * SLOT_SIZE;
const PARTICIPANTS: u64 = 2 * PAGE;

/// A kind of word: `many` of them, `step` bytes apart.
pub(crate) struct Word {
    pub(crate) name: &'static str,
    at: u64,
    many: u64,
    step: u64,
}

impl Word {
    /// The first one: of the first slot, group or record, which the test uses.
    pub(crate) fn first(&self) -> u64 {
        self.at
    }

    pub(crate) fn random(&self, random: &mut Random) -> u64 {
        self.at + random.below(self.many) * self.step
    }
}

const fn one(name: &'static str, at: u64) -> Word {
    Word { name, at, many: 1, step: 0 }
}

const fn many(name: &'static str, at: u64, many: u64, step: u64) -> Word {
    Word { name, at, many, step }
}

/// The kinds of words of a queue file.
pub(crate) const WORDS: [Word; 34] = [
    one("tail", QUEUE_WORDS),
    one("active", QUEUE_WORDS + 128),
    one("sleepers", QUEUE_WORDS + 136),
    one("producer role", QUEUE_WORDS + 144),
    one("removed, extents used", QUEUE_WORDS + 152),
    one("space wanted, space bell", QUEUE_WORDS + 256),
    one("swept_ms", QUEUE_WORDS + 384),
    many("head", GROUP_WORDS, GROUPS, 1024),
    many("group state", GROUP_WORDS + 128, GROUPS, 1024),
    many("start", GROUP_WORDS + 136, GROUPS, 1024),
    many("attention", GROUP_WORDS + 144, GROUPS, 1024),
    many("consumer role", GROUP_WORDS + 152, GROUPS, 1024),
    many("birth", GROUP_WORDS + 160, GROUPS, 1024),
    many("max deliveries, ordered", GROUP_WORDS + 168, GROUPS, 1024),
    many("backoff base, cap", GROUP_WORDS + 176, GROUPS, 1024),
    many("backoff jitter, from oldest", GROUP_WORDS + 184, GROUPS, 1024),
    many("bell, sweep_at", GROUP_WORDS + 256, GROUPS, 1024),
    many("expired", GROUP_WORDS + 264, GROUPS, 1024),
    many("recovered", GROUP_WORDS + 272, GROUPS, 1024),
    many("stale settles", GROUP_WORDS + 280, GROUPS, 1024),
    many("notes written", GROUP_WORDS + 288, GROUPS, 1024),
    many("group name", GROUP_WORDS + 384, GROUPS, 1024),
    many("attachment", ATTACHMENTS, 16, 64),
    many("in flight", ATTACHMENTS + 8, 16, 64),
    many("claim", CLAIMS, CAPACITY, 8),
    many("extent word", EXTENT_WORDS, CAPACITY, 8),
    many("lease", LEDGERS, CAPACITY, 8),
    many("lease of a leased message", LEDGERS + 8, CAPACITY - 1, 8),
    many("due", LEDGERS + DUE, CAPACITY, 8),
    many("due of a leased message", LEDGERS + DUE + 8, CAPACITY - 1, 8),
    many("returned", LEDGERS + RETURNED, CAPACITY / 64, 8),
    many("note", LEDGERS + NOTES, 128, 8),
    many("seq", SLOTS, CAPACITY, SLOT_SIZE),
    many("meta", SLOTS + 8, CAPACITY, SLOT_SIZE),
];

/// The kinds of words of a control file.
pub(crate) const CONTROL: [Word; 5] = [
    one("taken", PAGE),
    many("participant's state", PARTICIPANTS + 256, 8, 256),
    many("participant's pid", PARTICIPANTS + 256 + 8, 8, 256),
    many("participant's times", PARTICIPANTS + 256 + 16, 8, 256),
    many("participant's command", PARTICIPANTS + 256 + 32, 8, 256),
];

/// Whether nothing works any more while the word is wrong: the headers, the groups' states.
pub(crate) fn is_vital(file: usize, at: u64) -> bool {
    let state = (0..GROUPS).any(|group| at == GROUP_WORDS + group * 1024 + 128);
    at < PAGE || file == 1 && state
}

/// Whether this is the mark of a removed queue: whoever may write it may remove the queue, and that would be
/// the end of the test.
pub(crate) fn removes(file: usize, at: u64, value: u64) -> bool {
    file == 1 && at == QUEUE_WORDS + 152 && value as u32 == 1
}

#[test]
fn the_layout_is_that_of_the_file() {
    let place = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let store = ringway::Store::create(place.path().join("store")).expect("create the store");
    super::make_queue(&store);
    let len = std::fs::metadata(store.path().join("queues/q")).expect("metadata").len();
    assert_eq!(len, EXTENTS + CAPACITY * MAX_MESSAGE);
}
