//! What can be asked of the command. The help that users read is in the doc comments here.

pub(crate) mod bench;
pub(crate) mod journal;
pub(crate) mod transfer;

use std::ffi::OsString;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

use ringway::Level;

use self::bench::BenchArgs;
use self::journal::{JournalCommand, RepairArgs};
use self::transfer::{ExportArgs, ImportArgs};
use crate::exit::{CODES, Code, note};
use crate::units;

/// Message queues for the processes of one host: leases, acknowledgements and crash recovery, no server.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, after_help = CODES, max_term_width = 100)]
pub(crate) struct Cli {
    /// The store's directory; without it $RINGWAY_STORE, or else default in /dev/shm/ringway-UID.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) store: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See it work: a food-delivery order flow in which one worker is killed and one is paused.
    Demo(DemoArgs),
    /// Make a queue, and the store if it is not there.
    Create(CreateArgs),
    /// List the queues of the store.
    Ls,
    /// Show a queue's geometry and groups, or without a name the store and the processes attached to it.
    Info {
        /// The queue.
        queue: Option<String>,
    },
    /// Show how many messages are ready, leased, retrying and dead, per queue and group.
    Stats(StatsArgs),
    /// Remove a queue with its messages, or the whole store.
    Rm(RmArgs),
    /// Publish a message, or one per line.
    Publish(PublishArgs),
    /// Receive messages: print them, or run a command for each, and acknowledge them.
    Consume(ConsumeArgs),
    /// Look at messages without receiving them.
    Peek(PeekArgs),
    /// Write all messages of a queue as JSON lines, without receiving them.
    Export(ExportArgs),
    /// Publish messages that are JSON lines, such as those that were exported.
    Import(ImportArgs),
    /// Make, remove and list the groups of a queue.
    #[command(subcommand)]
    Group(GroupCommand),
    /// List, retry and purge dead letters.
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Give back what dead processes held, by hand: receivers do it all the time by themselves. Or with --journal,
    /// end a damaged journal before the damage.
    Repair(RepairArgs),
    /// Look into the journal of a durable store, without changing anything.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Check every invariant that the files can show, without changing anything.
    Verify {
        /// The queue; all of the store's without it.
        queue: Option<String>,
    },
    /// Measure: latency, throughput, and what the machine can do at best.
    Bench(BenchArgs),
    /// A worker of the demo.
    #[command(hide = true)]
    DemoWorker(DemoPartArgs),
    /// The order service of the demo.
    #[command(hide = true)]
    DemoService(DemoPartArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Take the orders from this file: one JSON object a line, each with an "id" of its own.
    #[arg(long, value_name = "FILE", conflicts_with = "orders")]
    pub(crate) input: Option<PathBuf>,
    /// How many orders to make up.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub(crate) orders: u32,
    /// How many restaurant workers: one is killed, one is paused, the others go on.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=64))]
    pub(crate) workers: u32,
    /// Show a power cut instead: on a durable store in this directory, which must not be there yet (without DIR in a
    /// temporary one), all processes are killed in the middle and the rings taken away.
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    pub(crate) durable: Option<Option<PathBuf>>,
}

/// What the demo tells the processes it starts.
#[derive(Debug, Args)]
pub(crate) struct DemoPartArgs {
    #[arg(long)]
    pub(crate) queue: String,
    /// The demo's directory: orders in, evidence out.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[arg(long, default_value_t = 0)]
    pub(crate) number: usize,
    #[arg(long, default_value = "0", value_parser = units::duration)]
    pub(crate) cook: Duration,
    /// Whether the order service waits for confirms.
    #[arg(long)]
    pub(crate) confirm: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The queue: 1 to 64 letters, digits, '.', '_' or '-'.
    pub(crate) queue: String,
    /// Slots, a power of two from 1024 to 16777216 [default: 16384].
    #[arg(long, value_name = "SLOTS")]
    pub(crate) capacity: Option<u32>,
    /// Bytes of a slot, a multiple of 64 from 64 to 4K [default: 128].
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(crate) slot_size: Option<u32>,
    /// The longest message with its headers, such as 64K or 16MiB [default: 1MiB].
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(crate) max_message: Option<u32>,
    /// How many groups there can be, 1 to 64 [default: 8].
    #[arg(long, value_name = "N")]
    pub(crate) max_groups: Option<u32>,
    /// Settings of the group `default`.
    #[command(flatten)]
    pub(crate) group: GroupSettings,
    /// Succeed if the queue is there already, with the geometry asked for.
    #[arg(long)]
    pub(crate) if_missing: bool,
    #[command(flatten)]
    pub(crate) durable: DurableArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DurableArgs {
    /// Make the store durable, with its journal in this directory on a disk, which is the store's path from then on:
    /// what was confirmed outlives a power cut. Its rings go to --store, or to a place of their own in /dev/shm.
    #[arg(long, value_name = "DIR")]
    pub(crate) durable: Option<PathBuf>,
    /// When the journal is synced: `group_commit` (before anyone is told), `sync_every=N` (records) or
    /// `sync_every=TIME` (such as 10ms), `os` (when the system likes) [default: group_commit].
    #[arg(long, value_name = "LEVEL", value_parser = units::level, requires = "durable")]
    pub(crate) level: Option<Level>,
    /// Bytes of a segment of the journal [default: 64MiB].
    #[arg(long, value_name = "SIZE", value_parser = units::size, requires = "durable")]
    pub(crate) segment_size: Option<u32>,
    /// Hand messages out before they are durable.
    #[arg(long, requires = "durable")]
    pub(crate) deliver_early: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GroupSettings {
    /// The order in which messages are handed out [default: relaxed].
    #[arg(long, value_enum)]
    pub(crate) order: Option<OrderArg>,
    /// Failures after which a message is dead; 0 for no limit, at most 500 [default: 10].
    #[arg(long, value_name = "N")]
    pub(crate) max_deliveries: Option<u16>,
    /// The wait after the first failure, doubled with each further one [default: 100ms].
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) backoff: Option<Duration>,
    /// The longest wait after a failure [default: 60s].
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) backoff_cap: Option<Duration>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum OrderArg {
    /// Past a producer that pauses in the middle of a publish; retries as they come due.
    Relaxed,
    /// Strictly by position; a failed message is retried before anything after it.
    Ordered,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// The queue; all of the store's without it.
    pub(crate) queue: Option<String>,
    /// Show it again and again, with this much time in between.
    #[arg(long, value_name = "SECONDS", value_parser = units::duration)]
    pub(crate) watch: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// The queue.
    #[arg(required_unless_present = "all")]
    pub(crate) queue: Option<String>,
    /// If the queue is in use, tell its users to stop and wait for them at most this long.
    #[arg(long, value_name = "TIME", value_parser = units::duration, conflicts_with = "all")]
    pub(crate) wait: Option<Duration>,
    /// Remove the whole store; needs --yes.
    #[arg(long, conflicts_with = "queue")]
    pub(crate) all: bool,
    /// Yes, remove the whole store.
    #[arg(long, requires = "all")]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// The queue.
    pub(crate) queue: String,
    /// The message; without it, stdin is the message.
    #[arg(conflicts_with_all = ["lines", "jsonl"])]
    pub(crate) message: Option<OsString>,
    /// One message per line of stdin: its bytes as they are, without the newline.
    #[arg(long)]
    pub(crate) lines: bool,
    /// One message per line of stdin, each of which must be JSON. Stops at the first that is not.
    #[arg(long, conflicts_with = "lines")]
    pub(crate) jsonl: bool,
    /// The type of the message.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) message_type: Option<String>,
    /// The correlation id of the message.
    #[arg(long, value_name = "ID")]
    pub(crate) correlation_id: Option<String>,
    /// The content type of the payload [default with --jsonl: application/json].
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
    /// The W3C trace parent.
    #[arg(long, value_name = "TRACEPARENT")]
    pub(crate) traceparent: Option<String>,
    /// A header of your own; may be given more than once.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub(crate) headers: Vec<(String, String)>,
    /// If the queue is full, wait for space at most this long; without it a full queue is an error.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) timeout: Option<Duration>,
    /// Wait until all of it is durable; for durable stores.
    #[arg(long)]
    pub(crate) confirm: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Without --exec, each payload is printed and a newline after it (--json: one object a line), and a message \
is acknowledged when all of its bytes were taken by stdout.

With --exec, the command finds the payload on its stdin, and RINGWAY_QUEUE, RINGWAY_GROUP, \
RINGWAY_POSITION, RINGWAY_ATTEMPT, RINGWAY_TYPE and RINGWAY_CORRELATION_ID in its environment. \
If it exits with 0 the message is acknowledged, with 75 (EX_TEMPFAIL) it is delivered again in 5 s without \
counting as failed, with anything else or by a signal it failed. The lease is extended as long as \
the command runs. SIGINT or SIGTERM: commands that run are waited for, and a second one ends them.")]
pub(crate) struct ConsumeArgs {
    /// The queue.
    pub(crate) queue: String,
    /// The group.
    #[arg(long, default_value = "default")]
    pub(crate) group: String,
    /// End after this many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Take up to this many messages at a time [default: 64, with --exec 1].
    #[arg(long, value_name = "N", value_parser = in_batch, conflicts_with = "delete")]
    pub(crate) batch: Option<usize>,
    /// Run this many commands at the same time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256), requires = "exec")]
    pub(crate) concurrency: u32,
    /// Wait for messages forever; without it, end when nothing is ready.
    #[arg(long)]
    pub(crate) follow: bool,
    /// Wait for messages, and end when there was none for this long.
    #[arg(long, value_name = "TIME", value_parser = units::duration, conflicts_with = "follow")]
    pub(crate) timeout: Option<Duration>,
    /// Run this shell command for each message.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) exec: Option<OsString>,
    /// How long a message is leased, 1ms to 12h, or `until-death` [default: 30s, with --exclusive
    /// until-death].
    #[arg(long, value_name = "TIME", value_parser = lease)]
    pub(crate) lease: Option<LeaseArg>,
    /// Be the group's only consumer.
    #[arg(long)]
    pub(crate) exclusive: bool,
    /// How to wait for messages.
    #[arg(long, value_enum, default_value_t = WaitArg::Adaptive)]
    pub(crate) wait: WaitArg,
    /// Acknowledge each message before it is printed: at most once, instead of at least once.
    #[arg(long, conflicts_with_all = ["exec", "lease"])]
    pub(crate) delete: bool,
    /// Wait after each message until its acknowledgement is durable; for durable stores. Without it, the last
    /// ones before a power cut are delivered again.
    #[arg(long, conflicts_with = "delete")]
    pub(crate) ack_durable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseArg {
    UntilDeath,
    Timed(Duration),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum WaitArg {
    /// Burn a core, answer in nanoseconds.
    Spin,
    /// Spin for some microseconds, then sleep.
    Adaptive,
    /// Sleep at once.
    Park,
}

#[derive(Debug, Args)]
pub(crate) struct PeekArgs {
    /// The queue.
    pub(crate) queue: String,
    /// The group.
    #[arg(long, default_value = "default")]
    pub(crate) group: String,
    /// How many messages, from the oldest on.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) limit: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Make a group: it gets every message from its start on.
    Add {
        /// The queue.
        queue: String,
        /// The new group.
        group: String,
        /// Where it begins: with what is published from now on, or with the oldest message still there.
        #[arg(long, value_enum, default_value_t = StartArg::Now)]
        from: StartArg,
        #[command(flatten)]
        settings: GroupSettings,
    },
    /// Remove a group: what it has not received is gone for it.
    Rm {
        /// The queue.
        queue: String,
        /// The group.
        group: String,
        /// If the group is in use, tell its users to stop and wait for them at most this long.
        #[arg(long, value_name = "TIME", value_parser = units::duration)]
        wait: Option<Duration>,
    },
    /// List the groups of a queue with their settings.
    Ls {
        /// The queue.
        queue: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum StartArg {
    Now,
    Oldest,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters with the reasons.
    Ls(DeadArgs),
    /// Give dead letters another chance, with their failures reset.
    Retry(DeadSelection),
    /// Delete dead letters.
    Purge(DeadSelection),
}

#[derive(Debug, Args)]
pub(crate) struct DeadArgs {
    /// The queue.
    pub(crate) queue: String,
    /// The group.
    #[arg(long, default_value = "default")]
    pub(crate) group: String,
}

#[derive(Debug, Args)]
pub(crate) struct DeadSelection {
    #[command(flatten)]
    pub(crate) of: DeadArgs,
    /// The one at this position; may be given more than once.
    #[arg(long = "position", value_name = "P", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) positions: Vec<u64>,
    /// All of the group.
    #[arg(long)]
    pub(crate) all: bool,
}

/// Reads the command line. Asking for help is answered here; a mistake is one line on stderr.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    let error = match Cli::try_parse() {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    let text = error.render().to_string();
    let code = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Whoever does not read the help to its end has seen enough of it.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Code::Done
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = std::io::stderr().write_all(text.as_bytes());
            Code::Usage
        }
        _ => {
            note(&in_one_line(&text));
            Code::Usage
        }
    };
    Err(ExitCode::from(code as u8))
}

/// clap's message without its usage: its paragraphs up to there, each line trimmed, as one line.
fn in_one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines: Vec<&str> =
        lines.filter(|line| !line.is_empty() && !line.starts_with("For more information")).collect();
    let line = lines.join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line).replace("tip: ", "- tip: ");
    format!("{line}; see --help")
}

const BATCH: RangeInclusive<usize> = 1..=65_536;

fn in_batch(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| "expected a number".to_string())?;
    if BATCH.contains(&number) {
        Ok(number)
    } else {
        Err(format!("expected {} to {}", BATCH.start(), BATCH.end()))
    }
}

fn lease(text: &str) -> Result<LeaseArg, String> {
    if text == "until-death" {
        return Ok(LeaseArg::UntilDeath);
    }
    let (least, most) = ringway::LEASE_BOUNDS;
    let time = units::duration(text)?;
    if time < least || time > most {
        return Err("expected 1ms to 12h, or until-death".to_string());
    }
    Ok(LeaseArg::Timed(time))
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err("expected NAME=VALUE".to_string()),
    }
}
