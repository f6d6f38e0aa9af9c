//! What can be asked of `ringway bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{LeaseArg, WaitArg, in_batch, lease};
use crate::units;

#[derive(Debug, Args)]
#[command(after_help = "\
Each run is made by processes of their own, on processors of their own where there are enough. They write and \
read every message, and count them: if any was lost, doubled or torn, the exit code is 5. The runs of all \
cases take turns, and each round begins with a ping-pong over two cache lines, the fastest there can be \
between two processes; figures are also given in relation to it.

Figures are medians over the runs, with the least and the most. Nothing else should be running.")]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) common: BenchCommon,
    #[command(subcommand)]
    pub(crate) command: Option<BenchCommand>,
}

impl BenchArgs {
    /// How often each case is run.
    pub(crate) fn runs(&self) -> u32 {
        let usual = if matches!(self.command, Some(BenchCommand::Recovery(_))) { 20 } else { 5 };
        self.common.runs.unwrap_or(usual)
    }
}

#[derive(Debug, Args)]
pub(crate) struct BenchCommon {
    /// How often each case is run [default: 5; of recovery 20].
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) runs: Option<u32>,
    /// Shuffles the cases of each round by this number.
    #[arg(long, global = true, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Draw the results: percentiles of latencies, throughput by what was varied.
    #[arg(long, global = true, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
    /// Make the queues in this directory.
    #[arg(long, global = true, value_name = "DIR", default_value = "/dev/shm")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// The standard set of all of these; the same as no subcommand.
    All(AllArgs),
    /// From publish to receive: there and back, and one way.
    Latency(LatencyArgs),
    /// Messages per second.
    Throughput(ThroughputArgs),
    /// What a consumer costs that waits, and how fast it wakes up.
    Idle(IdleArgs),
    /// How soon the work of a killed process is handed out again.
    Recovery(RecoveryArgs),
    /// What the machine can do at best.
    Limits(LimitsArgs),
    /// Throughput by payload, by number of processes, and by capacity.
    Sweep(SweepArgs),
}

#[derive(Debug, Default, Args)]
pub(crate) struct AllArgs {
    /// At most this many messages a run, warm-up aside.
    #[arg(long, value_name = "N", value_parser = messages())]
    pub(crate) messages: Option<u64>,
}

/// What latency, throughput and sweep have in common.
#[derive(Debug, Default, Clone, Copy, Args)]
pub(crate) struct QueueArgs {
    /// The role of producers and consumers; without it each that is possible.
    #[arg(long, value_enum)]
    pub(crate) role: Option<RoleArg>,
    /// Bytes of a slot [default: what the payload needs, up to 4K].
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(crate) slot_size: Option<u32>,
    /// How to wait [default: spin, or adaptive where there are more processes than processors].
    #[arg(long, value_enum)]
    pub(crate) wait: Option<WaitArg>,
    /// How long a message is leased, 1ms to 12h, or `until-death` [default: until-death].
    #[arg(long, value_name = "TIME", value_parser = lease)]
    pub(crate) lease: Option<LeaseArg>,
    /// What a message survives.
    #[arg(long, value_enum, default_value_t = DurabilityArg::Volatile)]
    pub(crate) durability: DurabilityArg,
    /// Write and read payloads in place, without copies.
    #[arg(long)]
    pub(crate) zero_copy: bool,
    /// What of a payload is written before it is published, and read after it was received.
    #[arg(long, value_enum, default_value_t = TouchArg::All)]
    pub(crate) touch: TouchArg,
    /// Messages of a run, after a warm-up; a sweep takes fewer if they are long.
    #[arg(long, value_name = "N", value_parser = messages())]
    pub(crate) messages: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
    /// Bytes of a message; several with commas in between.
    #[arg(long, value_name = "SIZE", value_parser = units::size, value_delimiter = ',', default_value = "64")]
    pub(crate) payload: Vec<u32>,
    /// Slots of a queue, a power of two.
    #[arg(long, value_name = "SLOTS")]
    pub(crate) capacity: Option<u32>,
    /// Send this many messages a second, and measure from when each was due: stalls are not hidden.
    /// Without it, each is sent when the one before has arrived.
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Measure only this.
    #[arg(long, value_enum)]
    pub(crate) only: Option<LatencyArg>,
}

#[derive(Debug, Args)]
pub(crate) struct ThroughputArgs {
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
    /// Producers.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = few())]
    pub(crate) producers: u32,
    /// Consumers of each group.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = few())]
    pub(crate) consumers: u32,
    /// Groups, each of which gets every message.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = few())]
    pub(crate) groups: u32,
    /// Bytes of a message; several with commas in between.
    #[arg(long, value_name = "SIZE", value_parser = units::size, value_delimiter = ',', default_value = "64")]
    pub(crate) payload: Vec<u32>,
    /// Slots of the queue, a power of two [default: 16384, or fewer for long messages].
    #[arg(long, value_name = "SLOTS")]
    pub(crate) capacity: Option<u32>,
    /// Publish and receive this many messages at a time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = in_batch)]
    pub(crate) batch: usize,
    /// Publish for this long, instead of a number of messages.
    #[arg(long, value_name = "TIME", value_parser = some_time, conflicts_with = "messages")]
    pub(crate) seconds: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    /// How to wait: several with commas in between.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [WaitArg::Park, WaitArg::Adaptive])]
    pub(crate) wait: Vec<WaitArg>,
    /// How long to look at a consumer that waits.
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "2s")]
    pub(crate) seconds: Duration,
    /// How often to wake it up.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000), default_value_t = 500)]
    pub(crate) wakes: u64,
}

#[derive(Debug, Args)]
pub(crate) struct RecoveryArgs {
    /// How the consumer waits that gets the work: several with commas in between [default: all, but spin
    /// only where there is a processor for it].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) wait: Vec<WaitArg>,
    /// Slots of the queue, a power of two up to 131072. Half of them are in flight.
    #[arg(long, value_name = "SLOTS", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(..=131_072))]
    pub(crate) capacity: u32,
}

#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// Measure fdatasync of a file in this directory.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) disk: PathBuf,
    /// Round trips of a ping-pong.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = messages())]
    pub(crate) messages: u64,
}

#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
    /// Vary only this.
    #[arg(long, value_enum)]
    pub(crate) over: Option<SweepArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Any number of producers, and of consumers in a group.
    Shared,
    /// One producer, and one consumer in a group.
    Exclusive,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityArg {
    /// The death of any process, but not of the machine.
    #[default]
    Volatile,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TouchArg {
    /// Every byte.
    #[default]
    All,
    /// A word in every 4 KiB, and the last one: leaves the copies that the queue makes.
    Pages,
    /// The first word and the last one: leaves what does not depend on the length.
    Ends,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LatencyArg {
    RoundTrip,
    OneWay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SweepArg {
    /// 8 bytes to 1 MiB.
    Payload,
    /// 1 to 8 producers and consumers.
    Processes,
    /// 1,024 to 1,048,576 slots.
    Capacity,
}

fn messages() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=10_000_000_000)
}

fn few() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=64)
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (1.0..=1e9).contains(&rate) => Ok(rate),
        _ => Err("expected 1 to 1000000000 messages a second".to_string()),
    }
}

fn some_time(text: &str) -> Result<Duration, String> {
    let time = units::duration(text)?;
    let bounds = Duration::from_millis(10)..=Duration::from_secs(3_600);
    if bounds.contains(&time) { Ok(time) } else { Err("expected 10ms to 1h".to_string()) }
}
