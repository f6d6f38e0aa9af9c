//! Exhaustive searches of the shipping ring. One line of figures for each.
//!
//! `MODEL_BOUNDS=full` searches the larger configurations too (hours, and some 10 GiB of memory at a time).

use loom_tests::explicit::{Config, Consumer, Producer, Role, Settle, explore};

fn holds(config: &Config) {
    if let Err(violation) = explore(config) {
        panic!("{}: {violation:?}", config.name);
    }
}

/// A search that takes more than some seconds.
fn holds_in_full(config: &Config) {
    if std::env::var("MODEL_BOUNDS").is_ok_and(|bounds| bounds == "full") {
        holds(config);
    }
}

fn producer(messages: u8) -> Producer {
    Producer { messages, ..Producer::default() }
}

fn relaxed() -> Consumer {
    Consumer::relaxed(0)
}

fn ordered() -> Consumer {
    Consumer { ordered: true, ..Consumer::relaxed(0) }
}

fn timed() -> Consumer {
    Consumer { timed: true, ..Consumer::relaxed(0) }
}

const ALL: &[Settle] = &[Settle::Nack, Settle::Release, Settle::Reject];

#[test]
fn one_to_one() {
    holds(&Config::new("1 x 1, 3 messages").with(producer(3)).with(relaxed()));
    let config = Config::new("1 x 1, 3 messages, crash and restart of each");
    holds(&config.with(producer(3)).with(relaxed()).with_recovery(1, 1));
    let config = Config::new("1 x 1, 2 messages, two crashes, two restarts");
    holds_in_full(&config.with(producer(2)).with(relaxed()).with_recovery(2, 2));
    let config = Config { skips: 3, ..Config::new("1 x 1, 3 messages, crash, counts 3 skips") };
    holds_in_full(&config.with(producer(3)).with(relaxed()).with_recovery(2, 2));
}

#[test]
fn one_to_one_ordered() {
    let config = Config::new("1 x 1, ordered, 3 messages, crash and restart");
    holds(&config.with(producer(3)).with(ordered()).with_recovery(1, 1));
}

#[test]
fn exclusive() {
    let publishes = Producer { exclusive: true, ..producer(3) };
    let receives = Consumer { settles: ALL, ..Consumer::exclusive(0) };
    let config =
        Config { refusals: 1, ..Config::new("exclusive 1 x 1, 3 messages, refusal, crash, restart") };
    holds(&config.with(publishes.clone()).with(receives.clone()).with_recovery(1, 1));
    let config = Config { refusals: 2, ..Config::new("exclusive 1 x 1, 2 messages, 2 refusals, 2 crashes") };
    holds_in_full(&config.with(publishes).with(receives).with_recovery(2, 2));
}

/// Rings in which a run of free slots is longer than one: what was found with it is not looked at again.
#[test]
fn runs_of_free_slots() {
    let ring = |name| Config { slots: 4, ..Config::new(name) };
    let publishes = |messages| Producer { exclusive: true, ..producer(messages) };
    let config = ring("exclusive 1 x 1, 4 slots, 6 messages");
    holds(&config.with(publishes(6)).with(Consumer::exclusive(0)));
    let config = ring("exclusive 1 x 1, 4 slots, 5 messages, crash and restart of each");
    holds(&config.with(publishes(5)).with(Consumer::exclusive(0)).with_recovery(1, 1));
    let config = ring("1 x 1, 4 slots, 5 messages, crash");
    holds(&config.with(producer(5)).with(relaxed()).with_recovery(1, 0));
    let config = ring("2 x 1, 4 slots, 1 and 2 messages");
    holds(&config.with(producer(1)).with(producer(2)).with(relaxed()));
    let config = ring("2 x 1, 4 slots, 2 and 3 messages");
    holds_in_full(&config.with(producer(2)).with(producer(3)).with(relaxed()));
}

#[test]
fn one_to_two() {
    holds(&Config::new("1 x 2, 2 messages").with(producer(2)).with(relaxed()).with(relaxed()));
    let crash = |name, crashes, restarts| {
        let config = Config::new(name).with(producer(1)).with(relaxed()).with(relaxed());
        config.with_recovery(crashes, restarts)
    };
    holds(&crash("1 x 2, 1 message, crash of each", 1, 0));
    holds_in_full(&crash("1 x 2, 1 message, crash and restart of each", 1, 1));
    let config = Config::new("1 x 2, 3 messages");
    holds_in_full(&config.with(producer(3)).with(relaxed()).with(relaxed()));
}

#[test]
fn one_to_two_ordered() {
    let config = Config::new("1 x 2, ordered, 2 messages");
    holds(&config.with(producer(2)).with(ordered()).with(ordered()));
    let settles = Consumer { settles: &[Settle::Release], ..ordered() };
    let config = Config { refusals: 1, ..Config::new("1 x 2, ordered, 3 messages, refusal") };
    holds_in_full(&config.with(producer(3)).with(settles.clone()).with(settles));
}

#[test]
fn two_to_one() {
    holds(&Config::new("2 x 1, 2 + 1 messages").with(producer(2)).with(producer(1)).with(relaxed()));
    let config = Config::new("2 x 1, 1 + 1 messages, crash and restart of each");
    holds(&config.with(producer(1)).with(producer(1)).with(relaxed()).with_recovery(1, 1));
    let config = Config::new("2 x 1, 2 + 2 messages");
    holds_in_full(&config.with(producer(2)).with(producer(2)).with(relaxed()));
}

#[test]
fn two_groups() {
    let config = Config { groups: 2, active: 3, ..Config::new("1 x 1 in each of 2 groups, 3 messages") };
    holds(&config.with(producer(3)).with(relaxed()).with(Consumer::exclusive(1)));
    let crash = |name, messages| {
        let config = Config { groups: 2, active: 3, ..Config::new(name) }.with(producer(messages));
        config.with(relaxed()).with(Consumer::exclusive(1)).with_recovery(1, 1)
    };
    holds(&crash("1 x 1 in each of 2 groups, 1 message, crash", 1));
    holds_in_full(&crash("1 x 1 in each of 2 groups, 2 messages, crash", 2));
}

#[test]
fn refusals() {
    let settles = |consumer: Consumer| Consumer { settles: ALL, ..consumer };
    let config = Config { refusals: 2, ..Config::new("1 x 1, 2 messages, 2 refusals, crash and restart") };
    holds(&config.with(producer(2)).with(settles(relaxed())).with_recovery(1, 1));
    let config = Config { refusals: 1, ..Config::new("1 x 2, 1 message, refusal, crash") };
    holds_in_full(
        &config.with(producer(1)).with(settles(relaxed())).with(settles(relaxed())).with_recovery(1, 0),
    );
    let config = Config { refusals: 1, ..Config::new("1 x 2, 2 messages, refusal") };
    holds_in_full(&config.with(producer(2)).with(settles(relaxed())).with(settles(relaxed())));
    let revived = |name, messages| {
        let config = Config { refusals: 1, limit: 1, ..Config::new(name) }.with(producer(messages));
        config.with(settles(relaxed())).with_recovery(1, 1).with(Role::Reviver { group: 0 })
    };
    holds(&revived("1 x 1, 1 message, dead and revived, crash", 1));
    holds_in_full(&revived("1 x 1, 2 messages, dead and revived, crash", 2));
}

/// Abandoned positions: a slot may go round several laps without a message.
#[test]
fn abandoned() {
    let gives_up = Producer { messages: 4, abandons: 3, exclusive: false };
    let config = Config::new("1 x 1, 4 claims, 3 may be abandoned");
    holds(&config.with(gives_up.clone()).with(relaxed()));
    let gives_up = Producer { messages: 3, abandons: 3, exclusive: false };
    let config = Config::new("1 x 2, 3 claims, all may be abandoned");
    holds_in_full(&config.with(gives_up).with(relaxed()).with(relaxed()));
}

/// No sweep: where nobody dies or pauses, the marks alone suffice.
#[test]
fn marks_suffice() {
    let settles = Consumer { settles: &[Settle::Nack], sweeps: false, ..relaxed() };
    let config = Config { refusals: 2, ..Config::new("1 x 1, 2 messages, 2 nacks, no sweep") };
    holds(&config.with(producer(2)).with(settles.clone()));
    let config = Config { refusals: 1, pauses: false, ..Config::new("1 x 2, 1 message, 1 nack, no sweep") };
    holds(&config.with(producer(1)).with(settles.clone()).with(settles.clone()));
    let config = Config { refusals: 2, pauses: false, ..Config::new("1 x 2, 1 message, 2 nacks, no sweep") };
    holds(&config.with(producer(1)).with(settles.clone()).with(settles));
}

/// Timed leases with a sweeper of their own: expiry against ack, nack and extend, while the holder lives.
#[test]
fn timed_leases() {
    let both = Consumer { settles: &[Settle::Nack, Settle::Extend], ..timed() };
    let config = Config { refusals: 1, ticks: 2, delay: 1, ..Config::new("1 x 1 timed, 1 message, refusal") };
    holds(&config.with(producer(1)).with(both.clone()).with(Role::Sweeper { group: 0 }));
    let config = Config { ticks: 1, ..Config::new("1 x 1 timed, 1 message, crash") };
    holds(
        &config
            .with(producer(1))
            .with(timed())
            .with_recovery(1, 1)
            .with(Role::Sweeper { group: 0 })
            .immortal(),
    );
    let config = Config { refusals: 1, ticks: 2, ..Config::new("1 x 2 timed, 1 message, 2 ticks, refusal") };
    let quiet = Consumer { sweeps: false, ..both };
    holds_in_full(&config.with(producer(1)).with(quiet.clone()).with(quiet).with(Role::Sweeper { group: 0 }));
}

#[test]
fn timed_and_until_death() {
    let quiet = Consumer { sweeps: false, timed: true, ..ordered() };
    let until_death = Consumer { timed: false, settles: &[Settle::Nack], ..quiet.clone() };
    let pair = |name, timed: &Consumer, until_death: &Consumer| {
        let config = Config { refusals: 1, ticks: 1, ..Config::new(name) };
        config.with(producer(1)).with(timed.clone()).with(until_death.clone())
    };
    let sweeps = Consumer { sweeps: true, ..until_death.clone() };
    let config = pair("1 x 1 timed + 1 until death that sweeps, nack", &quiet, &sweeps);
    // With the one that sweeps paused, nobody would.
    holds(&Config { pauses: false, ..config });
    let sweeper = Role::Sweeper { group: 0 };
    holds_in_full(&pair("1 x 1 timed + 1 until death, nack", &quiet, &until_death).with(sweeper.clone()));
    let quiet = Consumer { ordered: false, settles: &[Settle::Nack], ..quiet };
    let until_death = Consumer { ordered: false, ..until_death };
    holds_in_full(&pair("1 x 1 timed + 1 until death, relaxed, nack", &quiet, &until_death).with(sweeper));
}

#[test]
fn lap_wraps() {
    let config = Config { lap: (1 << 32) - 1, ..Config::new("1 x 1, 4 messages, the lap wraps, crash") };
    holds(&config.with(producer(4)).with(relaxed()).with_recovery(1, 1));
}

#[test]
fn birth() {
    let of_group_1 = Consumer { sweeps: false, ..Consumer::exclusive(1) };
    let born = |name, slots, messages| {
        let config = Config { groups: 2, slots, ..Config::new(name) }.with(producer(messages));
        let consumer = Consumer { sweeps: false, ..ordered() };
        config.with(consumer).with(of_group_1.clone()).with(Role::Birth { group: 1 })
    };
    holds(&born("a group is born, 2 slots, 3 messages", 2, 3));
    holds(&born("a group is born, 4 slots, 4 messages", 4, 4));
    holds_in_full(&born("a group is born, 4 slots, 7 messages", 4, 7));
    let config = Config { groups: 2, ..Config::new("a group is born, relaxed, 2 slots, 3 messages") };
    let config = config.with(producer(3)).with(relaxed()).with(of_group_1);
    holds_in_full(&config.with(Role::Birth { group: 1 }));
}
