//! `ringway info`: a queue's geometry and groups; or the store, and who is attached to it.

use std::path::Path;

use ringway::{JournalInfo, Participant, QueueInfo};
use serde::Serialize;

use super::{Context, create, group};
use crate::exit::Failure;
use crate::output;
use crate::units::{group_digits, show_level, show_size};

#[derive(Debug, Serialize)]
struct StoreInfo<'a> {
    store: &'a Path,
    queues: Vec<String>,
    participants: Vec<Participant>,
    /// `null` if the store is volatile.
    journal: Option<JournalInfo>,
}

pub(super) fn queue(context: &Context, name: &str) -> Result<(), Failure> {
    let info = context.queue(name)?.info()?;
    if context.json {
        return output::json(&info);
    }
    let text = format!("{}\n{}", describe(&info), group::settings_table(&info.groups));
    output::text(&text)
}

fn describe(info: &QueueInfo) -> String {
    let exclusive = info.exclusive_producer.as_deref().map(|who| format!(", exclusive: {who}"));
    let rows = [
        ("queue", info.name.clone()),
        ("geometry", create::geometry(info)),
        ("in memory", show_size(info.allocated_bytes)),
        ("format", format!("version {}", info.format)),
        ("positions", format!("{} so far", group_digits(info.positions))),
        ("occupied", format!("{} slots", group_digits(info.occupied))),
        ("unfinished", format!("{} being published", group_digits(info.unfinished))),
        ("producers", format!("{}{}", info.producers, exclusive.unwrap_or_default())),
        ("groups", format!("{} of at most {}", info.groups.len(), info.max_groups)),
    ];
    let rows = rows.into_iter().map(|(name, value)| vec![name.to_string(), value]).collect();
    output::table(&[], rows, 0)
}

fn describe_journal(journal: &JournalInfo) -> String {
    let sync = if journal.batches == 0 {
        "none yet".to_string()
    } else {
        format!("{} us", journal.last_sync_ns / 1_000)
    };
    let rows = [
        ("journal", journal.dir.display().to_string()),
        ("level", show_level(journal.options.level)),
        ("on disk", format!("{} in {} segments", show_size(journal.bytes), journal.segments)),
        (
            "written",
            format!(
                "{} messages in {} batches",
                group_digits(journal.messages),
                group_digits(journal.batches)
            ),
        ),
        ("amplification", format!("{:.2} bytes written per byte of messages", journal.amplification)),
        ("to be written", format!("{} messages", group_digits(journal.unwritten))),
        ("to be synced", format!("{} records", group_digits(journal.unsynced))),
        ("last sync", sync),
        (
            "state",
            journal.failed.as_ref().map_or_else(|| "works".to_string(), |why| format!("FAILED: {why}")),
        ),
    ];
    let rows = rows.into_iter().map(|(name, value)| vec![name.to_string(), value]).collect();
    output::table(&[], rows, 0)
}

pub(super) fn store(context: &Context) -> Result<(), Failure> {
    let store = context.store()?;
    let info = StoreInfo {
        store: store.path(),
        queues: store.queues()?,
        participants: store.participants(),
        journal: store.journal()?,
    };
    if context.json {
        return output::json(&info);
    }
    let rows = info.participants.iter().map(|p| {
        let state = match (p.me, p.alive) {
            (true, _) => "this command",
            (false, true) => "alive",
            (false, false) => "dead, not recovered yet",
        };
        vec![
            p.index.to_string(),
            p.pid.to_string(),
            output::preview(p.command.as_bytes(), 32),
            state.to_string(),
        ]
    });
    let text = format!(
        "store   {}\nqueues  {}\n{}\n{}",
        info.store.display(),
        if info.queues.is_empty() { "none".to_string() } else { info.queues.join(", ") },
        info.journal.as_ref().map_or_else(String::new, |journal| format!("\n{}", describe_journal(journal))),
        output::table(&["participant", "pid", "command", "state"], rows.collect(), 0)
    );
    output::text(&text)
}
