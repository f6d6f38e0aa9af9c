//! The scene of the killings: a store, and a witness in it.
//!
//! The witness is a live producer and a live consumer in this process. It gives messages to the victims, goes
//! on working while they are paused, and judges what they left: which messages are there, how often, with how
//! many failures; whether it can go on publishing and receiving; whether the file shows a broken invariant.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringway::{Backoff, Consumer, GroupOptions, Lease, Producer, Queue, Store};

use super::operations::{Expect, QUEUE, Role, build_consumer, build_producer};

/// The longest wait of one poll.
const POLL: Duration = Duration::from_millis(1);

/// Polls after which a message is taken to be lost, or the witness to be wedged.
const POLLS_MAX: u32 = 5_000;

/// Who witnesses; dropped first, the directory last.
pub(crate) struct Scene {
    producer: Option<Producer>,
    consumer: Option<Consumer>,
    pub(crate) queue: Queue,
    pub(crate) store: Store,
    pub(crate) path: PathBuf,
    /// Distinguishes the witness's own messages.
    serial: u64,
    _place: tempfile::TempDir,
}

/// What went wrong. All zeros if nothing did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Faults {
    /// Messages that were published, or not settled, and are not there.
    pub(crate) lost: u64,
    /// Messages that nobody published, or that were settled.
    pub(crate) phantom: u64,
    /// Messages that came more than once.
    pub(crate) doubled: u64,
    /// Messages with a wrong count of failures or deliveries.
    pub(crate) miscounted: u64,
    /// Times that nothing went on.
    pub(crate) wedged: u64,
    /// Operations that were refused, or told their caller something wrong.
    pub(crate) errors: u64,
    /// Broken invariants in the file.
    pub(crate) violations: u64,
}

impl Faults {
    pub(crate) fn any(&self) -> bool {
        *self != Faults::default()
    }

    pub(crate) fn add(&mut self, other: &Faults) {
        self.lost += other.lost;
        self.phantom += other.phantom;
        self.doubled += other.doubled;
        self.miscounted += other.miscounted;
        self.wedged += other.wedged;
        self.errors += other.errors;
        self.violations += other.violations;
    }
}

/// A message that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) payload: Vec<u8>,
    pub(crate) failures: u16,
    pub(crate) attempt: u16,
    pub(crate) dead: bool,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        let base = if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
        let place = tempfile::tempdir_in(base).expect("a directory for the store");
        let path = place.path().join("store");
        let store = Store::create(&path).expect("create the store");
        let group = GroupOptions {
            backoff: Backoff { base: Duration::ZERO, cap: Duration::ZERO, jitter_percent: 0 },
            ..GroupOptions::default()
        };
        let queue = Queue::options()
            .capacity(1024)
            .slot_size(64)
            .max_message(1 << 16)
            .max_groups(2)
            .default_group(group)
            .create(&store, QUEUE)
            .expect("create the queue");
        Scene { producer: None, consumer: None, queue, store, path, serial: 0, _place: place }
    }

    /// The witness takes its place beside a victim with this role, or leaves it.
    pub(crate) fn make_way(&mut self, role: Role) {
        if role == Role::OnlyProducer {
            self.producer = None;
        }
        if role == Role::OnlyConsumer {
            self.consumer = None;
        }
    }

    fn producer(&mut self) -> Result<&Producer, String> {
        if self.producer.is_none() {
            let built = build_producer(&self.queue, Role::Shared);
            self.producer = Some(built.map_err(|error| format!("the witness's producer: {error}"))?);
        }
        self.producer.as_ref().ok_or_else(|| unreachable!("made above"))
    }

    fn consumer(&mut self) -> Result<&Consumer, String> {
        if self.consumer.is_none() {
            let lease = Lease::Timed(Duration::from_secs(60));
            let built = build_consumer(&self.queue, Role::Shared, lease);
            self.consumer = Some(built.map_err(|error| format!("the witness's consumer: {error}"))?);
        }
        self.consumer.as_ref().ok_or_else(|| unreachable!("made above"))
    }

    /// Publishes as the witness.
    pub(crate) fn give(&mut self, payload: &[u8]) -> Result<(), String> {
        let published = self.producer()?.publish(payload);
        published.map(|_| ()).map_err(|error| format!("the witness publishes: {error}"))
    }

    /// A message of the witness's own.
    pub(crate) fn own_message(&mut self) -> Vec<u8> {
        self.serial += 1;
        format!("own {}", self.serial).into_bytes()
    }

    /// Goes on until the last position has this residue in its group of eight. The hints are moved at the end
    /// of a group.
    pub(crate) fn align(&mut self, residue: u64) -> Result<(), String> {
        for _ in 0..16 {
            let payload = self.own_message();
            let receipt = self.producer()?.publish(&payload).map_err(|error| format!("align: {error}"))?;
            let position = receipt.position;
            self.next()?.ok_or("align: nothing received")?;
            if position % 8 == residue {
                return Ok(());
            }
        }
        Err("align: the positions do not go on".to_owned())
    }

    /// Receives and acks the next message; waits for it, but not for ever.
    fn next(&mut self) -> Result<Option<Found>, String> {
        for _ in 0..POLLS_MAX {
            if let Some(found) = self.take()? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Receives and acks a message if there is one within a poll.
    pub(crate) fn take(&mut self) -> Result<Option<Found>, String> {
        let consumer = self.consumer()?;
        let received = consumer.receive_timeout(POLL);
        let Some(delivery) = received.map_err(|error| format!("the witness receives: {error}"))? else {
            return Ok(None);
        };
        let found = Found {
            payload: delivery.payload().to_vec(),
            failures: delivery.failures(),
            attempt: delivery.attempt(),
            dead: false,
        };
        delivery.ack().map_err(|error| format!("the witness acks: {error}"))?;
        Ok(Some(found))
    }

    /// Whether a message goes through, while a victim may be paused. What comes before it is kept in `found`.
    pub(crate) fn goes_on(&mut self, found: &mut Vec<Found>) -> Result<bool, String> {
        let payload = self.own_message();
        self.give(&payload)?;
        self.comes(&payload, found)
    }

    /// Whether this message comes.
    pub(crate) fn comes(&mut self, payload: &[u8], found: &mut Vec<Found>) -> Result<bool, String> {
        while let Some(next) = self.next()? {
            if next.payload == payload {
                return Ok(true);
            }
            found.push(next);
        }
        Ok(false)
    }

    /// Whether no message of the default group is on its way or in somebody's hands.
    pub(crate) fn is_empty(&self) -> Result<bool, String> {
        let groups = self.queue.groups().map_err(|error| format!("groups: {error}"))?;
        Ok(groups.iter().filter(|group| group.name == "default").all(|group| group.leased + group.depth == 0))
    }

    /// Waits until the dead are recovered: by receiving, as any consumer would, or by `repair`.
    pub(crate) fn recover(&mut self, by_hand: bool) -> Result<Vec<Found>, String> {
        let mut found = Vec::new();
        if by_hand {
            self.store.repair().map_err(|error| format!("repair: {error}"))?;
            return Ok(found);
        }
        let start = Instant::now();
        while self.store.participants().iter().any(|other| !other.me) {
            found.extend(self.take()?);
            if start.elapsed() > Duration::from_secs(10) {
                return Err("a consumer receives, and the dead are not recovered".to_owned());
            }
        }
        Ok(found)
    }

    /// All messages that are there; waits until `enough` are, if that many have to come.
    pub(crate) fn drain(&mut self, mut found: Vec<Found>, enough: usize) -> Result<Vec<Found>, String> {
        for _ in 0..POLLS_MAX {
            found.extend(self.bury()?);
            if found.len() >= enough && self.is_empty()? {
                break;
            }
            found.extend(self.take()?);
        }
        Ok(found)
    }

    /// Takes the dead letters away.
    fn bury(&mut self) -> Result<Vec<Found>, String> {
        let letters = self.queue.dead("default").map_err(|error| format!("dead: {error}"))?;
        let mut found = Vec::new();
        for letter in letters {
            let position = letter.message.position;
            let purged = self.queue.purge_dead("default", position);
            if !purged.map_err(|error| format!("purge: {error}"))? {
                return Err(format!("the dead letter at {position} cannot be purged"));
            }
            found.push(Found {
                payload: letter.message.payload,
                failures: letter.message.failures,
                attempt: letter.attempts,
                dead: true,
            });
        }
        Ok(found)
    }

    /// Broken invariants in the file.
    pub(crate) fn violations(&self) -> Result<Vec<String>, String> {
        let report = self.queue.verify().map_err(|error| format!("verify: {error}"))?;
        Ok(report
            .violations
            .iter()
            .map(|violation| format!("{}: {}", violation.place, violation.what))
            .collect())
    }
}

/// Compares what is there with what may be. `done`: the operation returned to its caller.
pub(crate) fn judge(expect: Expect, messages: &[Vec<u8>], found: &[Found], done: bool) -> Faults {
    let mut faults = Faults::default();
    let mut times = vec![0_u64; messages.len()];
    for one in found {
        match messages.iter().position(|message| *message == one.payload) {
            Some(index) => times[index] += 1,
            None => faults.phantom += 1,
        }
    }
    faults.doubled = times.iter().filter(|times| **times > 1).count() as u64;
    let there = times.iter().take_while(|times| **times > 0).count();
    let beyond = times[there..].iter().filter(|times| **times > 0).count() as u64;
    let all = messages.len();
    let (least, most) = match expect {
        Expect::Published(_) => (if done { all } else { 0 }, all),
        Expect::Back { .. } | Expect::Recovered | Expect::Dead => (1, 1),
        Expect::Gone { .. } => (0, usize::from(!done)),
        Expect::Nothing | Expect::Queue | Expect::Group | Expect::Store => (0, 0),
    };
    // One that came out of order with the ones before it missing is as good as nobody's.
    faults.phantom += beyond + there.saturating_sub(most) as u64;
    faults.lost = least.saturating_sub(there) as u64;
    faults.miscounted = found.iter().filter(|one| !counts_right(expect, one, done)).count() as u64;
    faults
}

fn counts_right(expect: Expect, found: &Found, done: bool) -> bool {
    let (failures, untouched) = match expect {
        Expect::Published(_) => (0, false),
        Expect::Back { failures_if_done, .. } if done => (failures_if_done, false),
        Expect::Back { untouched_if_killed, .. } | Expect::Gone { untouched_if_killed } => {
            (1, untouched_if_killed)
        }
        // Rejecting is no failure of its own.
        Expect::Dead if found.dead => return found.attempt == 1 && found.failures == 0,
        Expect::Dead => (1, false),
        Expect::Recovered => (1, false),
        Expect::Nothing | Expect::Queue | Expect::Group | Expect::Store => return true,
    };
    let right = |failures: u16| found.failures == failures && !found.dead;
    // A release is a delivery without a failure.
    let attempts = found.failures < found.attempt && found.attempt <= 2;
    (right(failures) || untouched && right(0)) && attempts && !(expect == Expect::Dead && done)
}
