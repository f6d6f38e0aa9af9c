//! Who takes part, with which settings, and what each is asked to do.

use anyhow::Result;

use super::beanstalk::Beanstalk;
use super::nats::{Nats, can_sync_always};
use super::rabbit::{self, Rabbit};
use super::redis::Redis;
use super::ringway::Ringway;
use super::server::{Durability, find};
use super::sqlite::Sqlite;
use super::version::installed;
use super::work::{Pace, Plan, Streamed, Timed, one_by_one, stream};
use super::{Broker, Line};
use crate::interrupt;

/// The payloads that brokers are measured with, if they are asked for.
pub const PAYLOADS: [usize; 2] = [64, 1024];

/// Ringway's messages per call, with which the batches of others are compared.
pub const RINGWAY_BATCH: usize = 64;

/// The name of Ringway, awake: the consumer's adaptive wait meets the next message before it sleeps.
pub const RINGWAY: &str = "Ringway";

/// The name of Ringway where every message has to wake the consumer.
pub const RINGWAY_ASLEEP: &str = "Ringway (consumer asleep)";

/// What kind of broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ringway,
    Redis,
    Nats,
    Rabbit,
    Beanstalk,
    Sqlite,
}

/// A broker and its setting.
#[derive(Debug, Clone, Copy)]
pub struct Contender {
    kind: Kind,
    durability: Durability,
}

/// One thing to measure.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    pub job: Job,
    pub payload: usize,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    Stream { batch: usize },
    OneByOne { pace: Pace },
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum Done {
    Streamed(Streamed),
    Timed(Box<Timed>),
}

impl Contender {
    /// All there are, Ringway first.
    pub fn all() -> Vec<Contender> {
        let mut all = vec![Contender { kind: Kind::Ringway, durability: Durability::Volatile }];
        for kind in [Kind::Redis, Kind::Nats, Kind::Rabbit, Kind::Beanstalk, Kind::Sqlite] {
            for durability in [Durability::Volatile, Durability::Durable] {
                all.push(Contender { kind, durability });
            }
        }
        all
    }

    /// Its name, with the setting.
    pub fn name(self) -> String {
        let volatile = self.durability == Durability::Volatile;
        let (name, setting) = match self.kind {
            Kind::Ringway => return RINGWAY.to_owned(),
            Kind::Redis => ("Redis streams", if volatile { "no persistence" } else { "appendfsync always" }),
            Kind::Nats if volatile => ("NATS JetStream", "memory"),
            Kind::Nats if can_sync_always() => ("NATS JetStream", "file, sync_interval always"),
            Kind::Nats => ("NATS JetStream", "file, synced every 2 minutes"),
            Kind::Rabbit => ("RabbitMQ", if volatile { "classic queue, transient" } else { "quorum queue" }),
            Kind::Beanstalk => ("beanstalkd", if volatile { "no binlog" } else { "binlog, -f 0" }),
            Kind::Sqlite => ("SQLite", if volatile { "synchronous=OFF" } else { "synchronous=FULL" }),
        };
        format!("{name} ({setting})")
    }

    /// Whether what it accepts is on the disk.
    pub fn durable(self) -> bool {
        self.durability == Durability::Durable && (self.kind != Kind::Nats || can_sync_always())
    }

    /// Its program's name and version.
    pub fn version(self) -> Option<String> {
        let (name, version) = match self.kind {
            Kind::Ringway => return None,
            Kind::Redis => ("Redis", installed("redis-server", Some("--version"))),
            Kind::Nats => ("NATS", installed("nats-server", Some("--version"))),
            Kind::Rabbit => ("RabbitMQ", installed(rabbit::SCRIPT, None)),
            Kind::Beanstalk => ("beanstalkd", installed("beanstalkd", Some("-v"))),
            Kind::Sqlite => ("SQLite", Some(rusqlite::version().to_owned())),
        };
        version.map(|version| format!("{name} {version}"))
    }

    /// What is not installed, and how to get it.
    pub fn missing(self) -> Option<String> {
        let (programs, package): (&[&str], _) = match self.kind {
            Kind::Ringway | Kind::Sqlite => return None,
            Kind::Redis => (&["redis-server"], "redis-server"),
            Kind::Nats => (&["nats-server"], "nats-server"),
            Kind::Rabbit => (&[rabbit::SCRIPT, "epmd"], "rabbitmq-server"),
            Kind::Beanstalk => (&["beanstalkd"], "beanstalkd"),
        };
        let program = programs.iter().find(|program| find(program).is_none())?;
        let program = program.rsplit('/').next().unwrap_or(program);
        Some(format!("{program} is not installed: apt-get install {package}"))
    }

    /// What it is asked to do.
    pub fn works(self, payloads: &[usize]) -> Vec<Work> {
        let jobs: &[Job] = match self.kind {
            Kind::Ringway => &[
                Job::Stream { batch: 1 },
                Job::Stream { batch: RINGWAY_BATCH },
                Job::OneByOne { pace: Pace::Watching },
                Job::OneByOne { pace: Pace::Resting },
            ],
            // It answers each command of a pipeline by itself, also those that find nothing.
            Kind::Beanstalk => &[Job::Stream { batch: 64 }, Job::OneByOne { pace: Pace::Sleeping }],
            _ => &[Job::Stream { batch: 256 }, Job::OneByOne { pace: Pace::Sleeping }],
        };
        let payloads = PAYLOADS.iter().filter(|&payload| payloads.contains(payload));
        payloads.flat_map(|&payload| jobs.iter().map(move |&job| Work { job, payload })).collect()
    }

    /// Starts it, does these works and ends it. Each work has a result of its own.
    pub fn measure(self, works: &[Work], plan: Plan) -> Result<Vec<Result<Done>>> {
        let durability = self.durability;
        match self.kind {
            Kind::Ringway => Ringway::new().map(|broker| do_all(&broker, works, plan)),
            Kind::Redis => Redis::start(durability).map(|broker| do_all(&broker, works, plan)),
            Kind::Nats => Nats::start(durability).map(|broker| do_all(&broker, works, plan)),
            Kind::Rabbit => Rabbit::start(durability).map(|broker| do_all(&broker, works, plan)),
            Kind::Beanstalk => Beanstalk::start(durability).map(|broker| do_all(&broker, works, plan)),
            Kind::Sqlite => Sqlite::new(durability).map(|broker| do_all(&broker, works, plan)),
        }
    }
}

/// Each work has a queue of its own.
fn do_all<B: Broker>(broker: &B, works: &[Work], plan: Plan) -> Vec<Result<Done>> {
    let one = |(index, work): (usize, &Work)| {
        interrupt::check()?;
        let name = format!("queue{index}");
        let queue = Line { name: &name, payload: work.payload };
        match work.job {
            Job::Stream { batch } => stream(broker, queue, batch, plan).map(Done::Streamed),
            Job::OneByOne { pace } => {
                one_by_one(broker, queue, pace, plan).map(|timed| Done::Timed(Box::new(timed)))
            }
        }
    };
    works.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_contenders_apart() {
        let mut names: Vec<String> = Contender::all().into_iter().map(Contender::name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!((names.len(), count), (11, 11), "{names:?}");
    }

    #[test]
    fn only_payloads_that_were_asked_for() {
        let works = Contender::all()[1].works(&[1024, 65_536]);
        assert_eq!(works.iter().map(|work| work.payload).collect::<Vec<_>>(), [1024, 1024]);
    }
}
