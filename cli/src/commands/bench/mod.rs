//! `ringway bench`: measures, in a way that can be repeated.
//!
//! A subcommand is a [set](sets) of [cases](case). The [rounds] run them in turns, beside
//! [gauges](limits) of what the machine can do at best; a run is [latency], a [stream], [idle] or a
//! [recovery], made by processes that are forked from this one, which therefore has no other thread. What they come to goes into
//! one [report], which is printed as JSON or as [tables], and [drawn](plot).

mod case;
mod figures;
mod idle;
mod latency;
mod limits;
mod place;
mod plot;
mod recovery;
mod report;
mod rounds;
mod run;
mod sets;
mod stream;
mod tables;

use super::Context;
use crate::args::bench::BenchArgs;
use crate::exit::{Code, Failure};
use crate::output;
use crate::signals::Interrupt;
use place::Place;
use plot::Canvas;
use report::Report;
use run::Watch;
use sets::Set;

pub(super) fn run(context: &Context, args: &BenchArgs) -> Result<(), Failure> {
    if context.chosen.is_some() {
        return Err(Failure::new(
            Code::Usage,
            "bench makes a store of its own for each run: use --dir to say where, instead of --store",
        ));
    }
    let set = Set::of(args.command.as_ref())?;
    if args.common.plot.is_some() && !set.can_be_drawn() {
        return Err(Failure::new(Code::Usage, "limits and recoveries are not drawn: leave out --plot"));
    }
    // Before hours of measuring, and not after.
    let canvas = args.common.plot.as_deref().map(Canvas::open).transpose()?;
    let interrupt = Interrupt::listen()?;
    let place = Place::new(&args.common.dir)?;
    let outcome = measure(context, args, set, canvas, &Watch { place: &place, interrupt: &interrupt });
    interrupt.outcome(outcome)
}

fn measure(
    context: &Context,
    args: &BenchArgs,
    set: Set,
    canvas: Option<Canvas>,
    watch: &Watch<'_>,
) -> Result<(), Failure> {
    let common = &args.common;
    set.cases.iter().try_for_each(|case| watch.place.check(case))?;
    let Set { cases, gauges, axes } = set;
    let measured = rounds::run(watch, cases, &gauges, args.runs(), common.seed);
    let (outcomes, gauges) = measured.map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
    let report = Report::new(args, &outcomes, &gauges)?;
    if context.json {
        output::json(&report)?
    } else {
        output::text(&tables::text(&report))?
    }
    if let Some(canvas) = canvas {
        canvas.draw(&report, &outcomes, &axes)?;
    }
    report.verdict()
}
