//! Is there progress? Producers always have something to publish and, since a scenario's ring is
//! small, consumers always have something to receive.

use crate::clock::now;
use crate::history::Nanos;

/// Time without progress that counts as wedged.
const PATIENCE: Nanos = 1_000_000_000;
/// When the harness itself had to wait this long for a processor, others may have as well.
const STARVED: Nanos = 100_000_000;

/// The last progress that was seen, of deliveries and of accepted messages.
#[derive(Debug)]
pub(crate) struct Watch {
    looked: Nanos,
    receives: (u64, Nanos),
    publishes: (u64, Nanos),
}

impl Watch {
    pub(crate) fn new() -> Watch {
        let time = now();
        Watch { looked: time, receives: (0, time), publishes: (0, time) }
    }

    /// Says what has come to a halt, if something has.
    pub(crate) fn look(&mut self, (receives, publishes): (u64, u64)) -> Option<String> {
        let time = now();
        let starved = time - self.looked > STARVED;
        self.looked = time;
        for (last, count) in [(&mut self.receives, receives), (&mut self.publishes, publishes)] {
            if starved || last.0 != count {
                *last = (count, time);
            }
        }
        let halted = |(_, since): (u64, Nanos)| time - since > PATIENCE;
        let what = match (halted(self.receives), halted(self.publishes)) {
            (false, false) => return None,
            (true, false) => "nothing was received",
            (false, true) => "nothing was accepted",
            (true, true) => "nothing was received or accepted",
        };
        Some(format!("{what} for 1 s"))
    }
}
