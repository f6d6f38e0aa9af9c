//! `ringway group add|rm|ls`.

use std::time::Duration;

use ringway::{GroupInfo, GroupOptions, Order, Start};
use serde::Serialize;

use super::{Context, create, rm};
use crate::args::{GroupCommand, StartArg};
use crate::exit::Failure;
use crate::output;
use crate::units::group_digits;

#[derive(Debug, Serialize)]
struct Changed<'a> {
    queue: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<&'a str>,
}

pub(super) fn run(context: &Context, command: &GroupCommand) -> Result<(), Failure> {
    match command {
        GroupCommand::Add { queue, group, from, settings } => {
            let start = match from {
                StartArg::Now => Start::Now,
                StartArg::Oldest => Start::Oldest,
            };
            let options = GroupOptions { start, ..create::group_options(settings) };
            context.queue(queue)?.add_group(group, options)?;
            if context.json {
                return output::json(&Changed { queue, added: Some(group), removed: None });
            }
            output::line(format!("created the group {group} of {queue}"))
        }
        GroupCommand::Rm { queue, group, wait } => {
            context.queue(queue)?.remove_group(group, rm::removal(*wait))?;
            if context.json {
                return output::json(&Changed { queue, added: None, removed: Some(group) });
            }
            output::line(format!("removed the group {group} of {queue}"))
        }
        GroupCommand::Ls { queue } => {
            let groups = context.queue(queue)?.groups()?;
            if context.json { output::json(&groups) } else { output::text(&settings_table(&groups)) }
        }
    }
}

/// Groups with their settings and what became of their messages.
pub(super) fn settings_table(groups: &[GroupInfo]) -> String {
    let rows = groups.iter().map(|group| {
        let options = &group.options;
        let order = match options.order {
            Order::Relaxed => "relaxed",
            Order::Ordered => "ordered",
        };
        let limit = match options.max_deliveries {
            0 => "no limit".to_string(),
            limit => limit.to_string(),
        };
        let backoff = format!("{}, at most {}", time(options.backoff.base), time(options.backoff.cap));
        let exclusive = group.exclusive_consumer.as_deref().unwrap_or("-");
        let mut row = vec![group.name.clone(), order.to_string(), backoff];
        row.push(output::preview(exclusive.as_bytes(), 32));
        row.push(limit);
        row.extend(
            [group.start, group.head, group.expired, group.recovered, group.stale_settles].map(group_digits),
        );
        row
    });
    let header = [
        "group",
        "order",
        "backoff",
        "exclusive",
        "max deliveries",
        "start",
        "head",
        "expired",
        "recovered",
        "stale",
    ];
    output::table(&header, rows.collect(), 6)
}

fn time(time: Duration) -> String {
    format!("{time:?}")
}
