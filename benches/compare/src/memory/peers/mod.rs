//! The peers: a file for each library, and here the list of them.

mod aeron;
mod array_queue;
mod boost;
mod channel;
mod cloudtoid;
mod disruptor;
mod iceoryx2;
mod pipes;
mod posix_mq;
mod ringway;
mod rtrb;
mod shaq;
mod sockets;
mod zeromq;

use anyhow::Result;
use nix::errno::Errno;

use super::peer::Peer;
use super::runner::{Case, Ended, run};
use super::workload::{Kind, Workload};

/// What a system call that must not sleep says when it would have to.
const WOULD_BLOCK: Errno = Errno::EAGAIN;

/// Messages in a batch, where there are batches.
pub const BATCH: usize = 16;

/// The names of the references: what other peers are compared with.
pub const EXCLUSIVE: &str = "ringway exclusive";
pub const SHARED: &str = "ringway shared";

/// A line of the tables.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Messages per call.
    pub batch: usize,
    /// Whether it is between threads.
    pub threads: bool,
    /// What is missing on this machine, and how to get it.
    pub missing: fn() -> Option<String>,
    fits: fn(&Workload) -> bool,
    run: fn(&Case) -> Result<Ended>,
}

impl Entry {
    fn new<P: Peer>(name: &'static str) -> Entry {
        Entry { name, batch: 1, threads: P::THREADS, missing: || None, fits: |_| true, run: run::<P> }
    }

    /// A peer that is not built in.
    #[cfg_attr(all(boost, feature = "aeron"), expect(dead_code))]
    fn absent(name: &'static str, missing: fn() -> Option<String>) -> Entry {
        let run = |_: &Case| anyhow::bail!("it is not built in");
        Entry { name, batch: 1, threads: false, missing, fits: |_| true, run }
    }

    /// A peer whose messages are values, with a type for each length there is.
    fn sized<P64: Peer, P1024: Peer, P65536: Peer>(name: &'static str) -> Entry {
        Entry { run: run_sized::<P64, P1024, P65536>, ..Entry::new::<P64>(name) }
    }

    /// For one sender and one receiver.
    fn pair(self) -> Entry {
        Entry { fits: is_pair, ..self }
    }

    fn batches(self) -> Entry {
        Entry { batch: BATCH, ..self }
    }

    /// Whether it is made for this.
    pub fn can(&self, workload: &Workload) -> bool {
        let one_at_a_time = workload.kind == Kind::RoundTrip;
        !(one_at_a_time && self.batch > 1) && (self.fits)(workload)
    }

    /// Runs it.
    pub fn run(&self, case: &Case) -> Result<Ended> {
        (self.run)(case)
    }
}

fn is_pair(workload: &Workload) -> bool {
    workload.producers == 1 && workload.consumers == 1
}

fn run_sized<P64: Peer, P1024: Peer, P65536: Peer>(case: &Case) -> Result<Ended> {
    match case.workload.payload {
        64 => run::<P64>(case),
        1024 => run::<P1024>(case),
        65_536 => run::<P65536>(case),
        other => anyhow::bail!("there is no type for messages of {other} bytes"),
    }
}

/// All there are, in the order of the tables.
pub fn all() -> Vec<Entry> {
    use array_queue::Array;
    use channel::Channel;
    use disruptor::Disruptor;
    use iceoryx2::Iceoryx2;
    use rtrb::Rtrb;
    use shaq::{Mpmc, Spsc};
    type Exclusive = ringway::Ringway<true>;
    type Shared = ringway::Ringway<false>;
    let rtrb = Entry::sized::<Rtrb<64>, Rtrb<1024>, Rtrb<65_536>>("rtrb").pair();
    let disruptor = Entry::sized::<Disruptor<64>, Disruptor<1024>, Disruptor<65_536>>("disruptor").pair();
    let spsc = Entry::sized::<Spsc<64>, Spsc<1024>, Spsc<65_536>>("shaq SPSC").pair();
    vec![
        Entry::new::<Exclusive>(EXCLUSIVE).pair(),
        Entry::new::<Exclusive>(EXCLUSIVE).pair().batches(),
        Entry::new::<Shared>(SHARED),
        Entry::new::<Shared>(SHARED).batches(),
        aeron::entry(),
        spsc,
        spsc.batches(),
        Entry::sized::<Mpmc<64>, Mpmc<1024>, Mpmc<65_536>>("shaq MPMC"),
        Entry::new::<cloudtoid::Cloudtoid>("cloudtoid-interprocess"),
        Entry::sized::<Iceoryx2<64>, Iceoryx2<1024>, Iceoryx2<65_536>>("iceoryx2").pair(),
        boost::entry(),
        Entry { missing: zeromq::missing, ..Entry::new::<zeromq::ZeroMq>("ZeroMQ ipc") },
        Entry::new::<sockets::Sockets<true>>("Unix sockets, polled"),
        Entry::new::<sockets::Sockets<false>>("Unix sockets"),
        Entry { fits: pipes::fit, ..Entry::new::<pipes::Pipes<true>>("pipes, polled") },
        Entry { fits: pipes::fit, ..Entry::new::<pipes::Pipes<false>>("pipes") },
        Entry { fits: posix_mq::fits, ..Entry::new::<posix_mq::PosixMq<true>>("POSIX mq, polled") },
        Entry { fits: posix_mq::fits, ..Entry::new::<posix_mq::PosixMq<false>>("POSIX mq") },
        Entry::sized::<Array<64>, Array<1024>, Array<65_536>>("crossbeam ArrayQueue"),
        Entry::sized::<Channel<64>, Channel<1024>, Channel<65_536>>("crossbeam-channel"),
        rtrb,
        rtrb.batches(),
        disruptor,
        disruptor.batches(),
    ]
}
