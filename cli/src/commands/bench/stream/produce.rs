//! A producer of a stream.

use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use ringway::Producer;
use ringway_measure::{END, Result, fill, fill_ends, fill_pages, id, now_ns};

use super::{QUEUE, Shared, Told, share};
use crate::commands::bench::case::{Amount, Case, Touch};
use crate::commands::bench::place::Stand;

/// Messages between two looks at the clock, where the time is what ends the stream.
const STRIDE: u64 = 64;

pub(super) fn run(case: &Case, stand: &Stand, shared: &Shared, index: usize) -> Result<Told> {
    let producer = stand.producer(case, QUEUE)?;
    let start_ns = shared.gate.arrive();
    let stream = Stream { case, producer: &producer, index, start_ns };
    // One copy of the loop for each way, so that there is nothing in it to be decided.
    let messages = match case.touch {
        Touch::All => stream.publish(fill),
        Touch::Pages => stream.publish(fill_pages),
        Touch::Ends => stream.publish(fill_ends),
    }?;
    shared.published().fetch_add(messages, Relaxed);
    // AcqRel: the last one comes after all messages of the others, and knows their number.
    if shared.done().fetch_add(1, AcqRel) + 1 == case.producers as u64 {
        let mut payload = vec![0; case.payload];
        case.touch.fill(&mut payload, END);
        for _ in 0..case.consumers {
            producer.publish(&payload[..]).map_err(|error| error.into_failure())?;
        }
    }
    Ok(Told::Published { messages })
}

/// How a message is written.
trait Fill: Fn(&mut [u8], u64) + Copy {}
impl<F: Fn(&mut [u8], u64) + Copy> Fill for F {}

struct Stream<'a> {
    case: &'a Case,
    producer: &'a Producer,
    index: usize,
    start_ns: u64,
}

impl Stream<'_> {
    /// Publishes all, and says how many.
    fn publish(&self, fill: impl Fill) -> Result<u64> {
        let mut payloads = vec![0; self.case.payload * self.case.batch];
        let Amount::Time(time) = self.case.amount else {
            return self.publish_some(0, share(self.case, self.index), &mut payloads, fill);
        };
        let end_ns = self.start_ns + time.as_nanos() as u64;
        let stride = STRIDE.max(self.case.batch as u64);
        let mut published = 0;
        while now_ns() < end_ns {
            published = self.publish_some(published, published + stride, &mut payloads, fill)?;
        }
        Ok(published)
    }

    /// Publishes the messages with these numbers, and says which is next. `payloads` is room for a batch.
    #[inline]
    fn publish_some(&self, first: u64, end: u64, payloads: &mut [u8], fill: impl Fill) -> Result<u64> {
        if self.case.zero_copy {
            self.publish_in_place(first, end, fill)?;
        } else if self.case.batch == 1 {
            self.publish_each(first, end, payloads, fill)?;
        } else {
            self.publish_batches(first, end, payloads, fill)?;
        }
        Ok(end)
    }

    fn publish_each(&self, first: u64, end: u64, payload: &mut [u8], fill: impl Fill) -> Result<()> {
        for number in first..end {
            fill(payload, id(self.index, number));
            self.producer.publish(&*payload).map_err(|error| error.into_failure())?;
        }
        Ok(())
    }

    fn publish_batches(&self, first: u64, end: u64, payloads: &mut [u8], fill: impl Fill) -> Result<()> {
        let len = self.case.payload;
        let mut next = first;
        while next < end {
            let count = (end - next).min(self.case.batch as u64);
            let some = &mut payloads[..len * count as usize];
            for payload in some.chunks_exact_mut(len) {
                fill(payload, id(self.index, next));
                next += 1;
            }
            let published = self.producer.publish_all(some.chunks_exact(len));
            published.map_err(|(_, error)| error.into_failure())?;
        }
        Ok(())
    }

    fn publish_in_place(&self, first: u64, end: u64, fill: impl Fill) -> Result<()> {
        for number in first..end {
            let mut loan = self.producer.loan(self.case.payload)?;
            fill(&mut loan, id(self.index, number));
            loan.publish()?;
        }
        Ok(())
    }
}
