//! Faults put into the memory or the processes: the searches have to find each of them.

use loom_tests::explicit::{Config, Consumer, Mutant, Producer, Role, Settle, explore};

/// The search finds the mutant, and says this of it; without it, it finds nothing.
fn found(config: Config, mutant: Mutant, says: &[&str]) {
    let mutated = Config { mutant: Some(mutant), sample: 1, ..config.clone() };
    match explore(&mutated) {
        Ok(_) => panic!("{mutant:?} was not found"),
        Err(violation) => {
            assert!(
                says.iter().any(|says| violation.broken.contains(says)),
                "{mutant:?} was found as something else: {violation:?}"
            );
            println!("mutant {mutant:?}: {}", violation.broken);
        }
    }
    if let Err(violation) = explore(&config) {
        panic!("found without the mutant: {violation:?}");
    }
}

fn producer(messages: u8) -> Producer {
    Producer { messages, ..Producer::default() }
}

fn relaxed() -> Consumer {
    Consumer::relaxed(0)
}

fn one_to_one() -> Config {
    Config::new("1 x 1, 3 messages").with(producer(3)).with(relaxed())
}

#[test]
fn claim_not_atomic() {
    let config = Config::new("2 x 1").with(producer(1)).with(producer(1)).with(relaxed());
    found(config, Mutant::ClaimNotAtomic, &["became claim", "unfinished"]);
}

/// Two producers that both believe that they are the only one.
#[test]
fn two_exclusive_producers() {
    let exclusive = Producer { exclusive: true, ..producer(1) };
    let config = Config::new("2 exclusive x 1").with(exclusive.clone()).with(exclusive).with(relaxed());
    let violation = explore(&config).expect_err("two exclusive producers were not found");
    assert!(violation.broken.contains("became claim"), "{violation:?}");
}

#[test]
fn lease_not_atomic() {
    let config = Config::new("1 x 2").with(producer(1)).with(relaxed()).with(relaxed());
    found(config, Mutant::LeaseNotAtomic, &["no lease to have"]);
}

/// Two consumers that both believe that they are the only one.
#[test]
fn two_exclusive_consumers() {
    let exclusive = Consumer::exclusive(0);
    let config = Config::new("1 x 2 exclusive").with(producer(1)).with(exclusive.clone()).with(exclusive);
    let violation = explore(&config).expect_err("two exclusive consumers were not found");
    assert!(violation.broken.contains("no lease to have"), "{violation:?}");
}

#[test]
fn held_looks_done() {
    found(one_to_one(), Mutant::HeldLooksDone, &["taken while group", "taken before group"]);
}

#[test]
fn unfinished_looks_finished() {
    let config = Config::new("2 x 1").with(producer(1)).with(producer(2)).with(relaxed());
    found(config, Mutant::UnfinishedLooksFinished, &["unfinished"]);
}

#[test]
fn start_ignored() {
    found(one_to_one(), Mutant::StartIgnored, &["taken before group", "taken while group"]);
}

/// A recoverer that wakes up after the slot went on.
#[test]
fn void_by_store() {
    let config =
        Config::new("2 x 0, crash").with(producer(1)).with_recovery(1, 0).with(producer(2)).immortal();
    found(config, Mutant::VoidByStore, &["became seq"]);
}

#[test]
fn void_forgotten() {
    let config = Config::new("1 x 1, ordered, crash").with(producer(2)).with(Consumer::exclusive(0));
    found(config.with_recovery(1, 1), Mutant::VoidForgotten, &["wedged"]);
}

#[test]
fn reused_too_early() {
    let config = Config::new("1 x 1, crash, restart").with(producer(1)).with(relaxed()).with_recovery(1, 1);
    found(
        config,
        Mutant::ReusedTooEarly,
        &["over claim", "a lease until death was ended", "told that its lease"],
    );
}

#[test]
fn finish_forgotten() {
    found(one_to_one(), Mutant::FinishForgotten, &["wedged", "written without", "unfinished"]);
}

#[test]
fn finish_before_write() {
    found(one_to_one(), Mutant::FinishBeforeWrite, &["written without", "was delivered"]);
}

#[test]
fn mark_forgotten() {
    let settles = Consumer { sweeps: false, settles: &[Settle::Nack], ..relaxed() };
    let config = Config { refusals: 1, ..Config::new("1 x 1, nack, no sweep") };
    found(config.with(producer(1)).with(settles), Mutant::MarkForgotten, &["wedged"]);
}

fn timed() -> Config {
    let extends = Consumer { timed: true, settles: &[Settle::Extend, Settle::Nack], ..relaxed() };
    let config = Config { refusals: 1, ticks: 2, ..Config::new("1 x 1 timed, refusal") };
    config.with(producer(1)).with(extends).with(Role::Sweeper { group: 0 })
}

#[test]
fn due_forgotten() {
    found(timed(), Mutant::DueForgotten, &["promised"]);
}

/// A lease that does not change its word with each turn: a late ack settles the lease of a later turn.
#[test]
fn turn_forgotten() {
    found(timed(), Mutant::TurnForgotten, &["promised", "settled", "no lease", "accepted", "wedged"]);
}

#[test]
fn copy_not_checked() {
    let sweeps = Consumer { timed: true, ordered: true, ..relaxed() };
    let slow = Consumer { sweeps: false, ..sweeps.clone() };
    let config = Config { ticks: 1, pauses: false, ..Config::new("1 x 2 timed, 3 messages") };
    let config = config.with(producer(3)).with(slow).with(sweeps);
    let mutated = Config { mutant: Some(Mutant::CopyNotChecked), ..config };
    let violation = explore(&mutated).expect_err("an unchecked copy was not found");
    assert!(violation.broken.contains("was delivered"), "{violation:?}");
    println!("mutant CopyNotChecked: {}", violation.broken);
}

#[test]
fn born_too_early() {
    let config = Config { groups: 2, slots: 2, ..Config::new("a group is born") };
    let config = config
        .with(producer(3))
        .with(relaxed())
        .with(Consumer { sweeps: false, ..Consumer::exclusive(1) })
        .with(Role::Birth { group: 1 });
    let mutated = Config { mutant: Some(Mutant::BornTooEarly), sample: 1, ..config };
    let violation = explore(&mutated).expect_err("a birth at an early tail was not found");
    println!("mutant BornTooEarly: {}", violation.broken);
}
