//! The report for people: what it was measured on, the limits, and a table for each kind of figure.

use ringway_measure::Spread;

use super::case::{Touch, What};
use super::figures::Percentiles;
use super::limits::Limits;
use super::report::{Entry, Report};
use crate::output;
use crate::units::show_size;

pub(super) fn text(report: &Report) -> String {
    let mut text = head(report);
    text.push_str(&limits(&report.limits));
    let of = |kinds: &[What]| {
        report.results.iter().filter(|entry| kinds.contains(&entry.what)).collect::<Vec<_>>()
    };
    for (entries, table) in [
        (of(&[What::RoundTrip, What::OneWay]), latency as fn(&[&Entry]) -> String),
        (of(&[What::Throughput]), throughput),
        (of(&[What::Idle]), idle),
        (of(&[What::Recovery]), recovery),
    ] {
        if !entries.is_empty() {
            text.push('\n');
            text.push_str(&table(&entries));
        }
    }
    if report.limits.unsteady() {
        text.push_str(
            "\nThe machine was not steady: the ping-pong of one round took 1.5 times as long as that of another. \
             Compare ratios, or measure again with nothing else running.\n",
        );
    }
    if report.profile != "release" {
        text.push_str("\nThis is a build without optimisation: measure with a release build.\n");
    }
    text
}

/// What it was measured on. Lines of the title of a plot, too.
pub(super) fn title(report: &Report) -> [String; 2] {
    let machine = &report.machine;
    let governor =
        machine.governor.as_ref().map_or(String::new(), |governor| format!(", governor {governor}"));
    [
        format!(
            "{}, {} processors, {} GiB{governor}, Linux {}, /dev/shm {}",
            machine.cpu,
            machine.cpus.len(),
            machine.memory_bytes.div_ceil(1 << 30),
            machine.kernel,
            machine.shm
        ),
        format!(
            "ringway {}, commit {}, {} run{}, seed {}; {}",
            report.version,
            report.commit,
            report.runs,
            if report.runs == 1 { "" } else { "s" },
            report.seed,
            report.pinning
        ),
    ]
}

fn head(report: &Report) -> String {
    let [machine, build] = title(report);
    format!("{machine}\n{build}\n\n")
}

fn limits(limits: &Limits) -> String {
    let mut rows = Vec::new();
    let mut row = |what: String, value: String| rows.push(vec![what, value]);
    row(
        "two-line ping-pong, round trip".into(),
        format!("{} ns", spread(&limits.two_line_round_trip, 1.0, 0)),
    );
    if let Some(one_line) = &limits.one_line_round_trip {
        row("one-line ping-pong, round trip".into(), format!("{} ns", spread(one_line, 1.0, 0)));
    }
    row("reading the clock".into(), format!("{:.1} ns", limits.clock_ns));
    for memcpy in &limits.memcpy {
        let (block, buffers) = (show_size(memcpy.block as u64), show_size(memcpy.buffers as u64));
        row(
            format!("memcpy, blocks of {block} in {buffers}"),
            format!("{} GB/s", spread(&memcpy.bytes_per_s, 1e9, 1)),
        );
    }
    for (what, latency) in [("futex wake", &limits.futex_wake), ("fdatasync of 4 KiB", &limits.fdatasync)] {
        if let Some(Percentiles { p50_runs: Some(p50), p99_ns: Some(p99), .. }) = latency {
            row(format!("{what}, p50"), format!("{} us", spread(p50, 1e3, 1)));
            row(format!("{what}, p99"), format!("{:.1} us", p99 / 1e3));
        }
    }
    output::table(&[], rows, 1)
}

fn latency(entries: &[&Entry]) -> String {
    let header = [
        "latency, ns",
        "role",
        "payload",
        "wait",
        "p50",
        "least - most",
        "p90",
        "p99",
        "p99.9",
        "p99.99",
        "max",
        "x limit",
    ];
    let rows = entries.iter().map(|entry| {
        let what = if entry.what == What::RoundTrip { "round trip" } else { "one way" };
        let rate = entry.rate.map_or(String::new(), |rate| format!(", {rate} a second"));
        let figures = &entry.latency;
        let mut row = vec![format!("{what}{rate}"), entry.role.name().into(), size(entry), entry.wait.into()];
        row.extend([number(figures.p50_ns, 0), range(figures.p50_runs.as_ref(), 1.0, 0)]);
        let tail = [figures.p90_ns, figures.p99_ns, figures.p99_9_ns, figures.p99_99_ns];
        row.extend(tail.map(|ns| number(ns, 0)));
        row.extend([number(figures.max_ns.map(|ns| ns as f64), 0), number(entry.ratio_to_limit, 2)]);
        row
    });
    output::table(&header, rows.collect(), 8)
}

fn throughput(entries: &[&Entry]) -> String {
    let header = [
        "throughput",
        "role",
        "payload",
        "batch",
        "slots",
        "wait",
        "M msg/s",
        "least - most",
        "GB/s",
        "ns/msg",
        "x limit",
        "of memcpy",
        "wrong",
    ];
    let rows = entries.iter().map(|entry| {
        let groups = if entry.groups > 1 { format!(", {} groups", entry.groups) } else { String::new() };
        let per_second = entry.msgs_per_s.map(|spread| spread.median);
        // What stays in place does not flow.
        let bytes = per_second.filter(|_| !entry.zero_copy).map(|rate| rate * entry.payload as f64 / 1e9);
        let mut row = vec![format!("{}p{}c{groups}", entry.producers, entry.consumers)];
        row.extend([entry.role.name().into(), size(entry), entry.batch.to_string()]);
        row.extend([entry.capacity.to_string(), entry.wait.to_string()]);
        let digits = per_second.map_or(0, |rate| digits(rate / 1e6));
        row.extend([number(per_second.map(|rate| rate / 1e6), digits)]);
        row.extend([range(entry.msgs_per_s.as_ref(), 1e6, digits)]);
        row.extend([number(bytes, 2), number(per_second.map(|rate| 1e9 / rate), 1)]);
        row.extend([number(entry.ratio_to_limit, 3), number(entry.ratio_to_memcpy, 2), wrong(entry)]);
        row
    });
    output::table(&header, rows.collect(), 7)
}

fn idle(entries: &[&Entry]) -> String {
    let header = [
        "waiting consumer",
        "CPU %",
        "wake-up p50, us",
        "least - most",
        "p99",
        "p99.9",
        "max",
        "x futex wake",
        "wrong",
    ];
    let rows = entries.iter().map(|entry| {
        let figures = &entry.latency;
        let us = |ns: Option<f64>| number(ns.map(|ns| ns / 1e3), 1);
        let mut row = vec![entry.wait.to_string(), number(entry.cpu_percent.map(|spread| spread.median), 3)];
        row.extend([us(figures.p50_ns), range(figures.p50_runs.as_ref(), 1e3, 1)]);
        row.extend([us(figures.p99_ns), us(figures.p99_9_ns), us(figures.max_ns.map(|ns| ns as f64))]);
        row.extend([number(entry.ratio_to_futex_wake, 2), wrong(entry)]);
        row
    });
    output::table(&header, rows.collect(), 8)
}

fn recovery(entries: &[&Entry]) -> String {
    let header = ["recovery, ms", "waits", "slots", "in flight", "p50", "p99", "max", "wrong"];
    let mut rows = Vec::new();
    for (entry, recovery) in entries.iter().filter_map(|entry| Some((entry, entry.recovery.as_ref()?))) {
        for (what, figures) in [
            ("kill to lock free", &recovery.kill_to_free),
            ("lock free to first message", &recovery.free_to_first),
            ("lock free to all messages", &recovery.free_to_all),
            ("repair by hand", &recovery.repair),
        ] {
            let ms = |ns: Option<f64>| number(ns.map(|ns| ns / 1e6), 2);
            let mut row = vec![what.to_owned(), entry.wait.to_string()];
            row.extend([entry.capacity.to_string(), recovery.in_flight.to_string()]);
            let max = figures.max_ns.map(|ns| ns as f64);
            row.extend([ms(figures.p50_ns), ms(figures.p99_ns), ms(max), wrong(entry)]);
            rows.push(row);
        }
    }
    output::table(&header, rows, 6)
}

/// The payload, and what of it is touched if that is not all.
fn size(entry: &Entry) -> String {
    let size = show_size(entry.payload as u64).replace("bytes", "B");
    let how = match (entry.zero_copy, entry.touch) {
        (true, _) => " in place",
        (false, Touch::All) => "",
        (false, Touch::Pages | Touch::Ends) => " copied",
    };
    size + how
}

/// What went wrong with messages: a dash for nothing.
fn wrong(entry: &Entry) -> String {
    let counts = [
        (entry.lost, "lost"),
        (entry.duplicated, "doubled"),
        (entry.torn, "torn"),
        (entry.out_of_order, "out of order"),
        (entry.lease_lost, "late acks"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let wrong: Vec<_> = counts.map(|(count, what)| format!("{count} {what}")).collect();
    if wrong.is_empty() { "-".to_owned() } else { wrong.join(", ") }
}

/// Digits after the point that make three in all, for values that are not tiny.
fn digits(value: f64) -> usize {
    (2.0 - value.log10().floor()).clamp(0.0, 6.0) as usize
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn range(spread: Option<&Spread>, unit: f64, digits: usize) -> String {
    let show = |spread: &Spread| format!("{:.digits$} - {:.digits$}", spread.min / unit, spread.max / unit);
    spread.map_or_else(|| "-".to_owned(), show)
}

/// Median, least and most, in this unit.
fn spread(spread: &Spread, unit: f64, digits: usize) -> String {
    format!("{:.digits$} ({})", spread.median / unit, range(Some(spread), unit, digits))
}
