//! How a consumer is made.

use std::cell::Cell;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use super::rounds::Rounds;
use super::spares::Spares;
use super::{Consumer, GLANCES};
use crate::delivery::policy::policy_of;
use crate::queue::attach::{Attached, Role};
use crate::queue::groups::{check_group_name, settings_of};
use crate::ring::{Attention, Subscriber};
use crate::sys::{clock, membarrier};
use crate::{LEASE_BOUNDS, Lease, Order, Queue, StoreError, Wait};

/// How a consumer is made.
#[derive(Debug)]
pub struct ConsumerBuilder {
    queue: Queue,
    group: String,
    exclusive: bool,
    lease: Option<Lease>,
    max_in_flight: usize,
    wait: Wait,
}

impl ConsumerBuilder {
    pub(crate) fn new(queue: &Queue, group: &str) -> ConsumerBuilder {
        ConsumerBuilder {
            queue: queue.clone(),
            group: group.to_owned(),
            exclusive: false,
            lease: None,
            max_in_flight: 256,
            wait: Wait::default(),
        }
    }

    /// Takes the consumer role of the group alone: messages come strictly in order, a failed one before the
    /// next, and with a lease until death (the default then) no locked instruction is needed.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// How long a delivery stays with this consumer. Default: until death for exclusive consumers, else 30 s.
    pub fn lease(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How many deliveries it may hold unsettled: 1 to 65,536 (default 256).
    pub fn max_in_flight(mut self, deliveries: usize) -> Self {
        self.max_in_flight = deliveries;
        self
    }

    /// How to wait for messages.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Makes the consumer.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchGroup`]; `BadOption`; `RoleTaken` if another consumer of the group is exclusive,
    /// or this one is to be and there are others; `Removed`, `Forked`, `Exhausted`, `Io`.
    pub fn build(self) -> Result<Consumer, StoreError> {
        let lease_ms = self.lease_ms()?;
        if !(1..=65_536).contains(&self.max_in_flight) {
            return Err(StoreError::BadOption {
                option: "max_in_flight",
                found: self.max_in_flight.to_string(),
                expected: "1 to 65536".to_owned(),
            });
        }
        let Queue { store, core } = &self.queue;
        store.check_forked()?;
        core.tidy(store);
        core.check_removed(store)?;
        check_group_name(&self.group)?;
        let group = core.find_group(&self.group)?;
        let attached = Attached::new(store, core, Role::Consumer { group, exclusive: self.exclusive })?;
        // The name is the group's still: it cannot be removed while this record is there, but could before.
        if core.find_group(&self.group)? != group {
            return Err(StoreError::NoSuchGroup { queue: core.name.clone(), group: self.group });
        }
        core.mapped.populate();
        let words = core.mapped.group(group);
        let timed = lease_ms.is_some();
        let subscriber = Subscriber::new(&core.mapped, group, store.me, self.exclusive, timed);
        let gate = core.gate(store);
        let subscriber = match gate {
            Some(journal) => subscriber.behind(journal),
            None => subscriber,
        };
        if self.exclusive {
            // What the predecessor left returned must be known before anything fresh is handed out.
            core.sweep_slots(group, 0..core.mapped.geometry().capacity, clock::boot_ms(), subscriber.head());
        }
        let glances = if self.wait == Wait::Park { 1 } else { GLANCES };
        Ok(Consumer {
            group,
            gated: gate.is_some(),
            plain: !timed && !store.trusted,
            policy: policy_of(words),
            fenced: membarrier::available(),
            in_flight: Cell::new(0),
            subscriber,
            lease_ms,
            ordered: self.exclusive || settings_of(core, group).order == Order::Ordered,
            birth: words.birth.load(Acquire),
            limit: self.max_in_flight,
            wait: self.wait,
            glances,
            first_glances: if gate.is_some() { 0 } else { glances },
            spares: Spares::new(),
            rounds: Rounds::new(),
            not_due: Cell::new(Attention::NONE),
            writing: Cell::new((0, 0)),
            attached,
        })
    }

    fn lease_ms(&self) -> Result<Option<u64>, StoreError> {
        let default = if self.exclusive { Lease::UntilDeath } else { Lease::Timed(Duration::from_secs(30)) };
        match self.lease.unwrap_or(default) {
            Lease::UntilDeath => Ok(None),
            Lease::Timed(time) if time >= LEASE_BOUNDS.0 && time <= LEASE_BOUNDS.1 => {
                Ok(Some(time.as_millis() as u64))
            }
            Lease::Timed(time) => Err(StoreError::BadOption {
                option: "lease",
                found: format!("{time:?}"),
                expected: "1 ms to 12 h".to_owned(),
            }),
        }
    }
}
