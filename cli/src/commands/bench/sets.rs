//! Which cases each subcommand runs.

use std::ops::Range;

use ringway::Lease;
use ringway_measure::cpus;

use super::case::{Amount, Case, Durability, Plan, Role, Touch, What, wait_of};
use super::limits::Gauges;
use crate::args::WaitArg;
use crate::args::bench::{
    AllArgs, BenchCommand, IdleArgs, LatencyArg, LatencyArgs, QueueArgs, RecoveryArgs, SweepArg, SweepArgs,
    ThroughputArgs, TouchArg,
};
use crate::exit::{Code, Failure};

/// What is varied by a set, for whoever draws it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Payload,
    Producers,
    Consumers,
    Both,
    Capacity,
}

/// Cases of a set that differ in one thing.
pub(super) type Stretch = (Axis, Range<usize>);

/// The cases of a subcommand.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) cases: Vec<Case>,
    pub(super) gauges: Gauges,
    pub(super) axes: Vec<Stretch>,
}

impl Set {
    pub(super) fn of(command: Option<&BenchCommand>) -> Result<Set, Failure> {
        let (cases, axes) = match command {
            None => (all(&AllArgs::default())?, Vec::new()),
            Some(BenchCommand::All(args)) => (all(args)?, Vec::new()),
            Some(BenchCommand::Latency(args)) => (latency(args)?, Vec::new()),
            Some(BenchCommand::Throughput(args)) => {
                let cases = throughput(args)?;
                let all = 0..cases.len();
                (cases, vec![(Axis::Payload, all)])
            }
            Some(BenchCommand::Idle(args)) => (idle(args), Vec::new()),
            Some(BenchCommand::Recovery(args)) => (recovery(args)?, Vec::new()),
            Some(BenchCommand::Sweep(args)) => sweep(args)?,
            Some(BenchCommand::Limits(args)) => {
                let gauges = Gauges::all(args.messages, &args.disk);
                return Ok(Set { cases: Vec::new(), gauges, axes: Vec::new() });
            }
        };
        Ok(Set { gauges: Gauges::of(&cases), cases, axes })
    }

    /// Whether there is anything to draw.
    pub(super) fn can_be_drawn(&self) -> bool {
        let has_curve = |case: &Case| !matches!(case.what, What::Throughput | What::Recovery);
        !self.axes.is_empty() || self.cases.iter().any(has_curve)
    }
}

fn all(args: &AllArgs) -> Result<Vec<Case>, Failure> {
    let copied = QueueArgs { messages: args.messages, ..QueueArgs::default() };
    let long = QueueArgs { touch: TouchArg::Pages, ..copied };
    let in_place = QueueArgs { zero_copy: true, touch: TouchArg::Ends, ..copied };
    let both = [Role::Exclusive, Role::Shared];
    let mut plans = Vec::new();
    for payload in [48, 64] {
        plans.extend(both.map(|role| Plan { payload, ..Plan::new(What::RoundTrip, &copied, role) }));
    }
    for batch in [1, 16] {
        plans.extend(both.map(|role| Plan { batch, ..Plan::new(What::Throughput, &copied, role) }));
    }
    for (producers, consumers, groups) in [(2, 2, 1), (4, 4, 1), (1, 1, 3)] {
        let plan = Plan::new(What::Throughput, &copied, Role::Shared);
        plans.push(Plan { producers, consumers, groups, ..plan });
    }
    for payload in [64 << 10, 1 << 20] {
        plans.push(Plan { payload, ..Plan::new(What::Throughput, &long, Role::Exclusive) });
        plans.push(Plan { payload, ..Plan::new(What::Throughput, &in_place, Role::Exclusive) });
    }
    let cases = plans.into_iter().map(|plan| Plan { in_set: true, ..plan }.case());
    let mut cases = cases.collect::<Result<Vec<_>, _>>()?;
    cases.extend(idle(&IdleArgs::default()));
    cases.extend(recovery(&RecoveryArgs::default())?);
    Ok(cases)
}

fn latency(args: &LatencyArgs) -> Result<Vec<Case>, Failure> {
    let whats: &[What] = match args.only {
        None => &[What::RoundTrip, What::OneWay],
        Some(LatencyArg::RoundTrip) => &[What::RoundTrip],
        Some(LatencyArg::OneWay) => &[What::OneWay],
    };
    let mut cases = Vec::new();
    for &what in whats {
        for &payload in &args.payload {
            for role in Role::choices(args.queue.role, true) {
                let plan = Plan::new(what, &args.queue, role);
                cases.push(Plan { payload, capacity: args.capacity, rate: args.rate, ..plan }.case()?);
            }
        }
    }
    Ok(cases)
}

fn throughput(args: &ThroughputArgs) -> Result<Vec<Case>, Failure> {
    let alone = args.producers == 1 && args.consumers == 1;
    let mut cases = Vec::new();
    for &payload in &args.payload {
        for role in Role::choices(args.queue.role, alone) {
            let plan = Plan {
                producers: args.producers,
                consumers: args.consumers,
                groups: args.groups,
                payload,
                capacity: args.capacity,
                batch: args.batch,
                amount: args.seconds.map(Amount::Time),
                ..Plan::new(What::Throughput, &args.queue, role)
            };
            cases.push(plan.case()?);
        }
    }
    Ok(cases)
}

impl Default for IdleArgs {
    fn default() -> IdleArgs {
        IdleArgs {
            wait: vec![WaitArg::Park, WaitArg::Adaptive],
            seconds: std::time::Duration::from_secs(1),
            wakes: 300,
        }
    }
}

fn idle(args: &IdleArgs) -> Vec<Case> {
    let amount = Amount::Watch { time: args.seconds, wakes: args.wakes };
    let case = |&wait| Case { what: What::Idle, amount, ..waiting(wait) };
    args.wait.iter().map(case).collect()
}

/// A consumer that waits, and who it waits for.
fn waiting(wait: WaitArg) -> Case {
    let there = cpus();
    Case {
        what: What::Idle,
        role: Role::Shared,
        producers: 1,
        consumers: 1,
        groups: 1,
        payload: 64,
        slot_size: 128,
        capacity: 1_024,
        batch: 1,
        wait: wait_of(wait),
        lease: Lease::UntilDeath,
        durability: Durability::Volatile,
        zero_copy: false,
        touch: Touch::All,
        amount: Amount::Messages(0),
        rate: None,
        cpus: if there.len() >= 2 { there[..2].to_vec() } else { Vec::new() },
    }
}

impl Default for RecoveryArgs {
    fn default() -> RecoveryArgs {
        RecoveryArgs { wait: Vec::new(), capacity: 65_536 }
    }
}

fn recovery(args: &RecoveryArgs) -> Result<Vec<Case>, Failure> {
    let alone = cpus().len() >= 2;
    let mut waits = args.wait.clone();
    if waits.is_empty() {
        waits = vec![WaitArg::Adaptive, WaitArg::Park];
        if alone {
            waits.insert(0, WaitArg::Spin);
        }
    } else if waits.iter().any(|wait| matches!(wait, WaitArg::Spin)) && !alone {
        let message =
            "a consumer cannot spin where there is one processor: use --wait adaptive or --wait park";
        return Err(Failure::new(Code::Usage, message));
    }
    let amount = Amount::Messages(u64::from(args.capacity) / 2);
    // The holder is a producer and a consumer.
    let case =
        |wait| Case { what: What::Recovery, consumers: 2, capacity: args.capacity, amount, ..waiting(wait) };
    Ok(waits.into_iter().map(case).collect())
}

fn sweep(args: &SweepArgs) -> Result<(Vec<Case>, Vec<Stretch>), Failure> {
    let wanted = |axis| args.over.is_none_or(|over| over == axis);
    let plan = |role| Plan { in_set: true, ..Plan::new(What::Throughput, &args.queue, role) };
    let (mut cases, mut axes) = (Vec::new(), Vec::new());
    let mut add = |axis, plans: Vec<Plan<'_>>| {
        let from = cases.len();
        for plan in plans {
            cases.push(plan.case()?);
        }
        axes.push((axis, from..cases.len()));
        Ok::<_, Failure>(())
    };
    let roles = Role::choices(args.queue.role, true);
    if wanted(SweepArg::Payload) {
        let payloads = [8, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];
        let each = |&role: &Role| payloads.map(|payload| Plan { payload, ..plan(role) });
        add(Axis::Payload, roles.iter().flat_map(each).collect())?;
    }
    if wanted(SweepArg::Processes) && roles.contains(&Role::Shared) {
        // All in the same way, though the first could spin.
        let queue = QueueArgs { wait: args.queue.wait.or(Some(WaitArg::Adaptive)), ..args.queue };
        let shared = Plan { queue: &queue, ..plan(Role::Shared) };
        let counts = [1, 2, 4, 8];
        add(Axis::Producers, counts.map(|producers| Plan { producers, ..shared }).into())?;
        add(Axis::Consumers, counts.map(|consumers| Plan { consumers, ..shared }).into())?;
        add(Axis::Both, counts.map(|count| Plan { producers: count, consumers: count, ..shared }).into())?;
    }
    if wanted(SweepArg::Capacity) {
        let each = |&role: &Role| {
            (10..=20).step_by(2).map(move |bits| Plan { capacity: Some(1 << bits), ..plan(role) })
        };
        add(Axis::Capacity, roles.iter().flat_map(each).collect())?;
    }
    if cases.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            "an exclusive role is one process's: leave out --role exclusive or --over processes",
        ));
    }
    Ok((cases, axes))
}
