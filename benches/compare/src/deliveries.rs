//! Ringway's deliveries as both families take them: read, acknowledged, and in batches without an allocation.

use std::mem;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use ringway::{Consumer, Delivery};

/// Reads a message and acknowledges it.
#[inline]
pub fn settle(delivery: Delivery<'_>, read: impl FnOnce(&[u8])) -> Result<()> {
    read(delivery.payload());
    delivery.ack().map_err(|error| anyhow!("{}", error.failure)).context("a lease was lost")
}

/// Room for a batch, used again for each.
#[derive(Debug, Default)]
pub struct Batch {
    /// Empty between two calls.
    room: Vec<Delivery<'static>>,
}

impl Batch {
    /// Receives up to `max` messages, waiting for the first, and settles them. How many there were.
    #[inline]
    pub fn take(
        &mut self,
        consumer: &Consumer,
        max: usize,
        wait: Duration,
        mut read: impl FnMut(&[u8]),
    ) -> Result<usize> {
        let mut batch = emptied(mem::take(&mut self.room));
        let taken = consumer.receive_batch_into(&mut batch, max, wait)?;
        for delivery in batch.drain(..) {
            settle(delivery, &mut read)?;
        }
        self.room = emptied(batch);
        Ok(taken)
    }
}

/// The memory of deliveries that are settled, for those of another borrow of the consumer.
#[inline]
fn emptied<'b>(mut batch: Vec<Delivery<'_>>) -> Vec<Delivery<'b>> {
    batch.clear();
    // An iterator of a vector, mapped to elements of the same size, is collected in its memory.
    batch.into_iter().map(|_| unreachable!("it is empty")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_batch_is_used_again() {
        let batch: Vec<Delivery<'_>> = Vec::with_capacity(16);
        let (memory, capacity) = (batch.as_ptr(), batch.capacity());
        let batch = emptied(batch);
        assert_eq!((batch.as_ptr().cast(), batch.capacity()), (memory, capacity));
    }
}
