//! What becomes of a message that was not acked: pure, time and chance are arguments.

use crate::layout::queue::GroupWords;
use crate::ring::settle::Return;
use crate::ring::{FAILURES_MAX, Lease};
use crate::{Backoff, DeadReason, GroupOptions, Order, Start};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The most failures that `max_deliveries` can be set to.
pub(crate) const MAX_DELIVERIES_MAX: u16 = 500;

/// The reasons for death, as a lease word holds them.
pub(crate) const REASON_MAX_DELIVERIES: u16 = 1;
pub(crate) const REASON_REJECTED: u16 = 2;
pub(crate) const REASON_CORRUPT: u16 = 3;

/// The reason in a DEAD lease word.
pub(crate) fn reason_of(lease: Lease) -> DeadReason {
    match lease.reason() {
        REASON_REJECTED => DeadReason::Rejected,
        REASON_CORRUPT => DeadReason::Corrupt,
        _ => DeadReason::MaxDeliveries,
    }
}

/// How a group treats failures, copied from its words once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FailurePolicy {
    /// Failures after which a message is dead; 0 for no limit.
    pub(crate) max_deliveries: u16,
    pub(crate) backoff: Backoff,
}

impl FailurePolicy {
    /// One more failure of `held`: again after `delay_ms`, or dead at the limit.
    pub(crate) fn failed(&self, held: Lease, now_ms: u64, delay_ms: u64) -> Return {
        let failures = (held.failures() + 1).min(FAILURES_MAX);
        if self.max_deliveries != 0 && failures >= self.max_deliveries {
            return Return::Dead { now_ms, failures, reason: REASON_MAX_DELIVERIES };
        }
        Return::Retry { due_ms: now_ms + delay_ms, failures }
    }

    /// The wait after the failure that `held` is about to count: exponential, capped, with jitter. `chance`:
    /// any number, uniform.
    pub(crate) fn backoff_ms(&self, held: Lease, chance: u64) -> u64 {
        let base = self.backoff.base.as_millis() as u64;
        let cap = self.backoff.cap.as_millis() as u64;
        let doubled = base.saturating_mul(1 << u32::from(held.failures()).min(40));
        let wait = doubled.min(cap);
        let spread = wait * u64::from(self.backoff.jitter_percent) / 100;
        let offset = if spread == 0 { 0 } else { chance % (2 * spread + 1) };
        wait - spread + offset
    }
}

/// The settings in a group's words.
pub(crate) fn options_of(words: &GroupWords) -> GroupOptions {
    GroupOptions {
        start: if words.from_oldest.load(Relaxed) == 1 { Start::Oldest } else { Start::Now },
        order: if words.ordered.load(Relaxed) == 1 { Order::Ordered } else { Order::Relaxed },
        max_deliveries: words.max_deliveries.load(Relaxed).min(u32::from(MAX_DELIVERIES_MAX)) as u16,
        backoff: Backoff {
            base: Duration::from_millis(words.backoff_base_ms.load(Relaxed).into()),
            cap: Duration::from_millis(words.backoff_cap_ms.load(Relaxed).into()),
            jitter_percent: words.backoff_jitter.load(Relaxed).min(100) as u8,
        },
    }
}

/// The failure policy in a group's words.
pub(crate) fn policy_of(words: &GroupWords) -> FailurePolicy {
    let options = options_of(words);
    FailurePolicy { max_deliveries: options.max_deliveries, backoff: options.backoff }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Holder, Owner};

    fn held(failures: u16) -> Lease {
        let holder = Holder::new(false, Owner::new(1));
        Lease::unborn(1).fresh(1, holder).retry(failures).again(holder)
    }

    fn policy(max_deliveries: u16) -> FailurePolicy {
        FailurePolicy { max_deliveries, backoff: Backoff::default() }
    }

    #[test]
    fn a_message_fails_exactly_as_often_as_it_may() {
        let retry = Return::Retry { due_ms: 7, failures: 2 };
        assert_eq!(policy(3).failed(held(1), 5, 2), retry);
        assert!(matches!(policy(3).failed(held(2), 5, 2), Return::Dead { failures: 3, .. }));
        assert!(matches!(policy(1).failed(held(0), 5, 2), Return::Dead { failures: 1, .. }));
    }

    #[test]
    fn without_a_limit_the_count_stays_at_its_top() {
        let to = policy(0).failed(held(FAILURES_MAX), 5, 2);
        assert_eq!(to, Return::Retry { due_ms: 7, failures: FAILURES_MAX });
    }

    #[test]
    fn backoff_doubles_up_to_the_cap_within_the_jitter() {
        for failures in 0..=FAILURES_MAX {
            let middle = (100_u64 << failures.min(20)).min(60_000);
            for chance in [0, 1, 12_345, u64::MAX] {
                let wait = policy(0).backoff_ms(held(failures), chance);
                assert!(
                    wait >= middle - middle / 10 && wait <= middle + middle / 10,
                    "{failures} {chance} {wait}"
                );
            }
        }
    }
}
