//! `ringway dead ls|retry|purge`.

use ringway::{DeadLetter, DeadReason};
use serde::Serialize;

use super::Context;
use crate::args::{DeadArgs, DeadCommand, DeadSelection};
use crate::exit::{Code, Failure};
use crate::output::{self, Content};
use crate::units::group_digits;

#[derive(Debug, Serialize)]
struct Record<'a> {
    position: u64,
    reason: DeadReason,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    failures: u16,
    attempts: u16,
    #[serde(flatten)]
    content: Content<'a>,
}

#[derive(Debug, Serialize)]
struct Done {
    #[serde(skip_serializing_if = "Option::is_none")]
    retried: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purged: Option<u64>,
}

pub(super) fn run(context: &Context, command: &DeadCommand) -> Result<(), Failure> {
    match command {
        DeadCommand::Ls(args) => ls(context, args),
        DeadCommand::Retry(selection) => {
            let queue = context.queue(&selection.of.queue)?;
            let count = each(context, selection, |group, position| queue.retry_dead(group, position))?;
            done(context, Done { retried: Some(count), purged: None }, "given another chance", count)
        }
        DeadCommand::Purge(selection) => {
            let queue = context.queue(&selection.of.queue)?;
            let count = each(context, selection, |group, position| queue.purge_dead(group, position))?;
            done(context, Done { retried: None, purged: Some(count) }, "deleted", count)
        }
    }
}

fn ls(context: &Context, args: &DeadArgs) -> Result<(), Failure> {
    let letters = context.queue(&args.queue)?.dead(&args.group)?;
    if !context.json {
        return output::text(&table(&letters));
    }
    let mut lines = Vec::new();
    for letter in &letters {
        let message = &letter.message;
        let record = Record {
            position: message.position,
            reason: letter.reason,
            description: letter.description.as_deref(),
            failures: message.failures,
            attempts: letter.attempts,
            content: Content::new(message.headers(), &message.payload),
        };
        output::json_line(&mut lines, &record)?;
    }
    output::Out::open()?.write(&lines).map_err(|(_, failure)| failure)
}

fn table(letters: &[DeadLetter]) -> String {
    let rows = letters.iter().map(|letter| {
        let reason = match (letter.reason, &letter.description) {
            (DeadReason::MaxDeliveries, _) => "failed too often".to_string(),
            (DeadReason::Rejected, Some(why)) => format!("rejected: {}", output::preview(why.as_bytes(), 40)),
            _ => "rejected".to_string(),
        };
        vec![
            letter.message.position.to_string(),
            letter.message.failures.to_string(),
            letter.attempts.to_string(),
            reason,
            output::preview(&letter.message.payload, 60),
        ]
    });
    output::table(&["position", "failures", "attempts", "reason", "payload"], rows.collect(), 0)
}

/// Does this to each dead letter that was selected, and counts.
fn each(
    context: &Context,
    selection: &DeadSelection,
    mut act: impl FnMut(&str, u64) -> Result<bool, ringway::StoreError>,
) -> Result<u64, Failure> {
    let group = &selection.of.group;
    let mut count = 0;
    if selection.all {
        for letter in context.queue(&selection.of.queue)?.dead(group)? {
            // One that somebody else settled in the meantime is not counted.
            count += u64::from(act(group, letter.message.position)?);
        }
        return Ok(count);
    }
    for &position in &selection.positions {
        if !act(group, position)? {
            let message =
                format!("no dead letter at position {position}: `ringway dead ls` shows what there is");
            let before =
                if count == 0 { String::new() } else { format!("; {count} before it were dealt with") };
            return Err(Failure::new(Code::Failed, message + &before));
        }
        count += 1;
    }
    Ok(count)
}

fn done(context: &Context, done: Done, what: &str, count: u64) -> Result<(), Failure> {
    if context.json {
        return output::json(&done);
    }
    let noun = if count == 1 { "dead letter" } else { "dead letters" };
    output::line(format!("{} {noun} {what}", group_digits(count)))
}
