//! Exhaustive searches of the shipping ring. One line of figures for each.

use loom_tests::explicit::{Config, Consumer, Producer, Report, explore};

fn holds(config: Config) -> Report {
    explore(&config).unwrap_or_else(|violation| panic!("{}: {violation:?}", config.name))
}

fn producer(messages: u8) -> Producer {
    Producer { messages, ..Producer::default() }
}

#[test]
fn one_to_one() {
    holds(Config::new("1 x 1, 3 messages").with(producer(3)).with(Consumer::relaxed(0)));
}

#[test]
fn one_to_two() {
    holds(
        Config::new("1 x 2, 3 messages")
            .with(producer(3))
            .with(Consumer::relaxed(0))
            .with(Consumer::relaxed(0)),
    );
}

#[test]
fn one_to_one_crash() {
    holds(
        Config::new("1 x 1, 3 messages, crash, restart")
            .with(producer(2))
            .with(Consumer::relaxed(0))
            .with_recovery(1, 1),
    );
}
