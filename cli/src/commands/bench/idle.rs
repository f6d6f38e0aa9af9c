//! What a consumer costs that waits, and how fast it wakes up.
//!
//! First nothing is published for a while, and the consumer's process says how much processor time that took.
//! Then a message is published now and then, long enough after the one before for the consumer to sleep again;
//! measured is from just before the publish to the message in hand.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use ringway_measure::{Error, Latency, Result, Tally, Words, fill, id, now_ns, processor_ns, spawn};
use serde::{Deserialize, Serialize};

use super::case::{Amount, Case};
use super::run::{Run, Watch, gate, settle_down};

/// Between two messages: longer than any consumer spins before it sleeps.
pub(super) const EVERY: Duration = Duration::from_millis(2);

#[derive(Debug, Serialize, Deserialize)]
struct Waited {
    latency: Latency,
    tally: Tally,
    cpu_percent: f64,
}

pub(super) fn run(watch: &Watch<'_>, case: &Case) -> Result<Run> {
    let Amount::Watch { time, wakes: count } = case.amount else {
        return Err(Error::new("an idle consumer is watched for a time"));
    };
    let stand = watch.place.stand(case, &["idle"])?;
    let (start, wakes) = (gate(case)?, gate(case)?);
    let sent = Words::new(usize::try_from(count)?)?;
    let waker = spawn(|| {
        settle_down(case, 0)?;
        let producer = stand.producer(case, "idle")?;
        start.arrive();
        // Asleep too, while the other one is looked at.
        thread::sleep(time);
        wakes.arrive();
        let mut payload = vec![0; case.payload];
        for (number, sent) in sent.iter().enumerate() {
            thread::sleep(EVERY);
            fill(&mut payload, id(0, number as u64));
            // Relaxed: the publish orders it.
            sent.store(now_ns(), Relaxed);
            producer.publish(&payload[..]).map_err(|error| error.into_failure())?;
        }
        Ok(Waited { latency: Latency::new(), tally: Tally::new(1), cpu_percent: 0.0 })
    })?;
    let waiter = spawn(|| {
        settle_down(case, 1)?;
        let consumer = stand.consumer(case, "idle", 0)?;
        start.arrive();
        let (before, from) = (processor_ns(), now_ns());
        let early = consumer.receive_timeout(time)?;
        let (used, took) = (processor_ns() - before, now_ns() - from);
        if early.is_some() {
            return Err(Error::new("there was a message before any was published"));
        }
        wakes.arrive();
        let (mut latency, mut tally) = (Latency::new(), Tally::new(1));
        for sent in sent.iter() {
            let delivery = consumer.receive()?;
            let at = now_ns();
            tally.take(delivery.payload());
            delivery.ack().map_err(|error| error.into_failure())?;
            latency.record(at.saturating_sub(sent.load(Relaxed)));
        }
        Ok(Waited { latency, tally, cpu_percent: 100.0 * used as f64 / took.max(1) as f64 })
    })?;
    let mut told = watch.join(case, vec![waiter, waker])?;
    let Waited { latency, tally, cpu_percent } = told.swap_remove(0);
    let faults = tally.faults(&Tally::of_published(&[count]));
    Ok(Run { latency: Some(latency), cpu_percent: Some(cpu_percent), faults, ..Run::default() })
}
