//! `ringway demo`: food-delivery orders, through a kill and a pause, with nothing lost.
//!
//! Every part is a process of its own, started from this very executable: an order service that
//! publishes (`part::service`), restaurant workers that consume (`part::worker`), and
//! the [director](scenes) that places the faults and watches. The queue's own word is not taken for what
//! happened: each part writes what it sees, with the time, to a log of its own before it goes on
//! ([`evidence`]), and the director judges by these logs alone.

mod company;
mod cut;
mod evidence;
mod orders;
mod part;
mod report;
mod scenes;
mod stage;

use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Context;
use crate::args::DemoArgs;
use crate::exit::{Code, Failure};
use crate::output;
use crate::signals::Stop;

pub(super) use part::{service, worker};
use report::Report;
use stage::Stage;

pub(super) fn run(context: &Context, args: &DemoArgs) -> Result<(), Failure> {
    let orders = match &args.input {
        Some(path) => orders::read(path)?,
        None => orders::make(args.orders),
    };
    let stop = Stop::listen()?;
    if let Some(place) = &args.durable {
        return run_durable(context, args, place.as_deref(), &orders, &stop);
    }
    let stage = Stage::set(context.chosen.as_deref(), &orders)?;
    let mut narrator = Narrator::new(context.json, orders.len() as u64);
    let outcome = scenes::play(&stage, orders.len(), args.workers as usize, &stop, &mut narrator);
    narrator.bar.finish_and_clear();
    let report = outcome?;
    // The processes are gone: what they left is only removed now, and also if anything above failed.
    drop(stage);
    if context.json {
        output::json(&report)?
    } else {
        output::text(&report.table())?
    }
    verdict(&report)
}

fn run_durable(
    context: &Context,
    args: &DemoArgs,
    place: Option<&Path>,
    orders: &[String],
    stop: &Stop,
) -> Result<(), Failure> {
    if context.chosen.is_some() {
        let text =
            "--store is not for --durable, whose rings are taken away: name a directory behind --durable";
        return Err(Failure::new(Code::Usage, text));
    }
    let stage = Stage::set_durable(place, orders)?;
    let narrator = Narrator::new(context.json, orders.len() as u64);
    let outcome = cut::play(&stage, orders, args.workers as usize, stop, &narrator);
    narrator.bar.finish_and_clear();
    let report = outcome?;
    drop(stage);
    if context.json {
        output::json(&report)?
    } else {
        output::text(&report.table())?
    }
    report.verdict()
}

fn verdict(report: &Report) -> Result<(), Failure> {
    let wrong = [
        (report.lost, "lost"),
        (report.acked_twice, "acknowledged more than once"),
        (report.phantoms, "delivered that nobody placed"),
    ];
    let wrong: Vec<_> =
        wrong.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::Violated, format!("of {} orders: {}", report.placed, wrong.join(", "))))
}

/// Tells what happens: lines on stdout unless that is for JSON, and a bar on stderr if it is a terminal.
struct Narrator {
    quiet: bool,
    bar: ProgressBar,
}

impl Narrator {
    fn new(quiet: bool, orders: u64) -> Narrator {
        let bar = ProgressBar::with_draw_target(Some(orders), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:30} {human_pos} of {human_len} orders delivered");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Narrator { quiet, bar }
    }

    fn say(&self, line: &str) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { self.bar.suspend(|| output::line(line)) }
    }
}
