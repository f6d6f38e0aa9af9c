//! Is there progress? Producers always have something to publish and, since a scenario's ring is
//! small, consumers always have something to receive.
//!
//! On a crowded machine a process may wait for a processor for long. That is not the queue's doing,
//! so such time does not count.

use nix::unistd::Pid;

use crate::clock::now;
use crate::fleet::Fleet;
use crate::history::Nanos;

/// Time without progress that counts as wedged.
pub(crate) const PATIENCE: Nanos = 1_000_000_000;
/// After this time without progress it is watched who waits for a processor.
const SHORT: Nanos = 100_000_000;
/// When the harness comes by this late, the whole machine may have stood still.
const STARVED: Nanos = 100_000_000;

/// How long each process has waited for a processor, altogether.
type Waits = Vec<(Pid, Nanos)>;

/// How long a count has not changed.
#[derive(Debug)]
pub(crate) struct Standstill {
    count: u64,
    since: Nanos,
    looked: Nanos,
    waits: Option<Waits>,
}

impl Standstill {
    /// It changes now.
    pub(crate) fn new(count: u64) -> Standstill {
        let time = now();
        Standstill { count, since: time, looked: time, waits: None }
    }

    /// Whether it has not changed for this long, less the time for which any of the fleet's
    /// processes was kept waiting.
    pub(crate) fn exceeds(&mut self, count: u64, longest: Nanos, fleet: &Fleet) -> bool {
        if count != self.count {
            *self = Standstill::new(count);
            return false;
        }
        let time = now();
        let late = time - self.looked;
        self.looked = time;
        if late > STARVED {
            self.since += late;
        }
        let still = time - self.since;
        if still > SHORT && self.waits.is_none() {
            self.waits = Some(fleet.waits());
        }
        still > longest && still - self.held_up(fleet).min(still) > longest
    }

    /// The longest time that one process was kept waiting.
    fn held_up(&self, fleet: &Fleet) -> Nanos {
        let before = |pid| {
            let waits = self.waits.iter().flatten();
            waits.filter(|(other, _)| *other == pid).map(|&(_, wait)| wait).next().unwrap_or(0)
        };
        let waits = fleet.waits().into_iter();
        waits.map(|(pid, wait)| wait.saturating_sub(before(pid))).max().unwrap_or(0)
    }
}

/// The progress of deliveries and of accepted messages.
#[derive(Debug)]
pub(crate) struct Watch {
    receives: Standstill,
    publishes: Standstill,
}

impl Watch {
    pub(crate) fn new() -> Watch {
        Watch { receives: Standstill::new(0), publishes: Standstill::new(0) }
    }

    /// Says what has come to a halt, if something has.
    pub(crate) fn look(&mut self, fleet: &Fleet) -> Option<String> {
        let (receives, publishes) = fleet.progress();
        let received = self.receives.exceeds(receives, PATIENCE, fleet);
        let published = self.publishes.exceeds(publishes, PATIENCE, fleet);
        let what = match (received, published) {
            (false, false) => return None,
            (true, false) => "nothing was received",
            (false, true) => "nothing was accepted",
            (true, true) => "nothing was received or accepted",
        };
        Some(format!("{what} for 1 s"))
    }
}
