//! `ringway stats`: where every group of every queue stands, once or again and again.

use std::io::{self, IsTerminal};

use ringway::{Queue, QueueInfo};

use super::Context;
use crate::args::StatsArgs;
use crate::exit::Failure;
use crate::output;
use crate::units::group_digits;

/// Moves to the top left corner and clears what is below: the table is drawn over the last one.
const REDRAW: &str = "\x1b[H\x1b[J";

pub(super) fn run(context: &Context, args: &StatsArgs) -> Result<(), Failure> {
    let Some(period) = args.watch else {
        return show(context, &context.queues(args.queue.as_deref())?, "");
    };
    let redraw = if io::stdout().is_terminal() && !context.json { "\x1b[2J" } else { "" };
    output::text(redraw)?;
    loop {
        // Anew each time: queues come and go.
        let queues = context.queues(args.queue.as_deref())?;
        show(context, &queues, if redraw.is_empty() { "" } else { REDRAW })?;
        std::thread::sleep(period);
    }
}

fn show(context: &Context, queues: &[Queue], before: &str) -> Result<(), Failure> {
    let infos = queues.iter().map(Queue::info).collect::<Result<Vec<_>, _>>()?;
    if context.json {
        return output::json(&infos);
    }
    output::text(&format!("{before}{}", table(&infos)))
}

fn table(infos: &[QueueInfo]) -> String {
    let mut rows = Vec::new();
    for info in infos {
        for group in &info.groups {
            let mut row = vec![info.name.clone(), group.name.clone()];
            let numbers = [group.depth, group.ready, group.leased, group.retrying, group.dead, group.lag];
            row.extend(numbers.map(group_digits));
            row.push(group_digits(group.consumers.into()));
            rows.push(row);
        }
    }
    let header = ["queue", "group", "depth", "ready", "leased", "retrying", "dead", "lag", "consumers"];
    output::table(&header, rows, 7)
}
