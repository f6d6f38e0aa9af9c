//! Power cuts: random ones, and one at every call.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::story::Story;
use crate::journal::simulated::Fault;

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is no number")))
}

/// Runs a story; if it fails, says how to run it again.
fn tell(seed: u64, live: impl FnOnce(&mut Story)) -> u64 {
    let told = catch_unwind(AssertUnwindSafe(|| {
        let mut story = Story::new(seed);
        live(&mut story);
        story.cuts
    }));
    told.unwrap_or_else(|panic| {
        eprintln!("again with: POWER_SEED={seed} cargo test -p ringway --lib journal::tests::power");
        resume_unwind(panic)
    })
}

#[test]
fn nothing_confirmed_is_lost_to_a_power_cut() {
    let life = |story: &mut Story| {
        story.live(4);
        story.damage();
    };
    if let Some(seed) = setting("POWER_SEED") {
        tell(seed, life);
        return;
    }
    let seeds = setting("POWER_CUTS").unwrap_or(300);
    let cuts: u64 = (0..seeds).map(|seed| tell(seed, life)).sum();
    println!("{seeds} lives, {cuts} power cuts");
    assert!(cuts >= seeds);
}

/// One life, in which one fault happens, at each call in turn.
fn at_every_call(fault: Fault, seed: u64) -> u64 {
    let mut happened = 0;
    for call in 1.. {
        let mut ahead = false;
        tell(seed, |story| {
            story.disk.fail_call(call, fault);
            story.go_on(60);
            ahead = story.disk.is_fault_ahead();
            story.power_cut();
        });
        if ahead {
            break;
        }
        happened += 1;
    }
    happened
}

#[test]
fn a_death_at_any_call_loses_nothing() {
    for seed in [11, 12] {
        assert!(at_every_call(Fault::Die, seed) > 100);
    }
}

#[test]
fn any_call_may_fail() {
    for fault in [Fault::Error, Fault::ErrorAndLost, Fault::NoSpace, Fault::Short] {
        assert!(at_every_call(fault, 13) > 100);
    }
}
