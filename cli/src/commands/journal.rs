//! `ringway journal` and `ringway repair --journal`: a durable store's log, read and checked; and cut before
//! what is damaged.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ringway::{Corruption, JournalError, JournalRecord, JournalRepair, JournalReport, Store, StoreError};
use serde::Serialize;

use super::Context;
use crate::args::journal::{DumpArgs, JournalArgs, JournalCommand, RepairArgs};
use crate::exit::{Code, Failure};
use crate::output::{self, Content, Out};
use crate::units::{group_digits, show_size};

/// Bytes that are gathered before they are printed.
const GATHERED: usize = 64 << 10;

pub(super) fn run(context: &Context, command: &JournalCommand) -> Result<(), Failure> {
    match command {
        JournalCommand::Ls(args) => ls(context, args),
        JournalCommand::Dump(args) => dump(context, args),
        JournalCommand::Verify(args) => verify(context, args),
    }
}

/// The durable directory that is meant: the one given, or the store's.
fn dir_of(context: &Context, given: Option<&Path>) -> Result<PathBuf, Failure> {
    let path = given.map_or_else(|| context.store_path(), Path::to_path_buf);
    if Store::is_durable_dir(&path) {
        return Ok(path);
    }
    // It may be that of its rings, or no store at all.
    match Store::open(&path) {
        Ok(store) => match store.journal()? {
            Some(journal) => Ok(journal.dir),
            None => Err(StoreError::Volatile { path }.into()),
        },
        Err(StoreError::NoSuchStore { .. }) if path.is_dir() => {
            let text = format!("{} is not a durable store: name its directory on the disk", path.display());
            Err(Failure::new(Code::NotFound, text))
        }
        Err(error) => Err(error.into()),
    }
}

fn ls(context: &Context, args: &JournalArgs) -> Result<(), Failure> {
    let report = Store::read_journal(dir_of(context, args.dir.as_deref())?, |_| {})?;
    if context.json {
        return output::json(&report);
    }
    let rows = report.segments.iter().map(|segment| {
        let numbers = [segment.first_lsn, segment.records, segment.batches, segment.end];
        let numbers = numbers.map(group_digits);
        [vec![format!("{:016x}.log", segment.number)], numbers.to_vec()].concat()
    });
    let table = output::table(&["segment", "first", "records", "batches", "end"], rows.collect(), 4);
    output::text(&format!("{table}\n{}", tell(&report)))
}

/// What there is, in a line, and a second one for what is torn.
fn tell(report: &JournalReport) -> String {
    let mut text = format!(
        "{} records in {} batches, {} bytes in {} segments of {}\n",
        group_digits(report.records),
        group_digits(report.batches),
        group_digits(report.bytes),
        group_digits(report.segments.len() as u64),
        show_size(report.segment_len),
    );
    if let Some(torn) = &report.torn {
        text.push_str(&format!("torn end: {torn} (nobody was told that it is durable)\n"));
    }
    text
}

/// What `verify --json` prints.
#[derive(Debug, Serialize)]
struct Verified<'a> {
    #[serde(flatten)]
    report: Option<&'a JournalReport>,
    damage: Option<Damage<'a>>,
}

#[derive(Debug, Serialize)]
struct Damage<'a> {
    path: &'a Path,
    segment: u64,
    offset: u64,
    found: &'a str,
    expected: &'a str,
    first_lost: u64,
    /// `null` if that is not known.
    last_lost: Option<u64>,
}

impl<'a> Damage<'a> {
    fn new(at: &'a Corruption) -> Damage<'a> {
        let Corruption { path, segment, offset, found, expected, first_lost, end_lost } = at;
        let last_lost = (end_lost > first_lost).then(|| end_lost - 1);
        let (segment, offset, first_lost) = (*segment, *offset, *first_lost);
        Damage { path, segment, offset, found, expected, first_lost, last_lost }
    }
}

fn verify(context: &Context, args: &JournalArgs) -> Result<(), Failure> {
    let read = Store::read_journal(dir_of(context, args.dir.as_deref())?, |_| {});
    if context.json {
        match &read {
            Ok(report) => output::json(&Verified { report: Some(report), damage: None })?,
            Err(StoreError::Journal(JournalError::Corrupt(at))) => {
                output::json(&Verified { report: None, damage: Some(Damage::new(at)) })?;
            }
            Err(_) => {}
        }
    }
    let report = read?;
    if context.json { Ok(()) } else { output::text(&format!("whole: {}", tell(&report))) }
}

/// A record, as `dump --json` prints it.
#[derive(Debug, Serialize)]
struct Row<'a> {
    lsn: u64,
    segment: u64,
    kind: &'a str,
    queue: &'a str,
    position: u64,
    bytes: usize,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Content<'a>>,
}

fn dump(context: &Context, args: &DumpArgs) -> Result<(), Failure> {
    let dir = dir_of(context, args.of.dir.as_deref())?;
    let mut printer = Printer { out: Out::open()?, gathered: Vec::new(), left: args.limit };
    if !context.json {
        let header = ["lsn", "segment", "kind", "position", "bytes", "queue", "what"];
        printer.gathered.extend_from_slice(columns(&header.map(str::to_string)).as_bytes());
    }
    let mut printed = Ok(());
    let read = Store::read_journal(dir, |record| {
        if printed.is_ok() && printer.left > 0 && is_asked_for(args, record) {
            printer.left -= 1;
            printed = printer.print(context.json, args.payload, record);
        }
    });
    printed.and_then(|()| printer.flush())?;
    // Whatever was readable is printed, and then what is wrong.
    read.map(drop).map_err(Failure::from)
}

fn is_asked_for(args: &DumpArgs, record: &JournalRecord<'_>) -> bool {
    record.lsn >= args.from
        && args.queue.as_ref().is_none_or(|queue| queue == record.queue)
        && (args.kind.is_empty() || args.kind.iter().any(|kind| kind.name() == record.kind))
}

/// Prints line by line: a journal may be longer than memory.
struct Printer {
    out: Out,
    gathered: Vec<u8>,
    left: u64,
}

impl Printer {
    fn print(&mut self, json: bool, payload: bool, record: &JournalRecord<'_>) -> Result<(), Failure> {
        let message = record.message().filter(|_| payload);
        if json {
            let row = Row {
                lsn: record.lsn,
                segment: record.segment,
                kind: record.kind,
                queue: record.queue,
                position: record.position,
                bytes: record.bytes,
                what: record.what(),
                message: message.map(|(headers, payload)| Content::new(headers, payload)),
            };
            output::json_line(&mut self.gathered, &row)?;
        } else {
            let mut what = record.what();
            if let Some((_, payload)) = message {
                what.push_str(": ");
                what.push_str(&shown(payload));
            }
            let numbers = [record.lsn, record.segment].map(|number| number.to_string());
            let [lsn, segment] = numbers;
            let position = if record.kind == "roster" { String::new() } else { record.position.to_string() };
            let bytes = record.bytes.to_string();
            let row =
                [lsn, segment, record.kind.to_string(), position, bytes, record.queue.to_string(), what];
            self.gathered.extend_from_slice(columns(&row).as_bytes());
        }
        if self.gathered.len() < GATHERED { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let written = self.out.write(&self.gathered).map_err(|(_, failure)| failure);
        self.gathered.clear();
        written
    }
}

/// Of fixed widths, since what comes later is not known.
fn columns([lsn, segment, kind, position, bytes, queue, what]: &[String; 7]) -> String {
    let what = output::preview(what.as_bytes(), what.len());
    format!("{lsn:>8}  {segment:>7}  {kind:<7}  {position:>10}  {bytes:>8}  {queue:<12}  {what}\n")
}

/// A payload as text, or else in base64.
fn shown(payload: &[u8]) -> String {
    match std::str::from_utf8(payload) {
        Ok(text) => text.to_string(),
        Err(_) => format!("base64 {}", BASE64.encode(payload)),
    }
}

/// `ringway repair --journal`.
pub(super) fn repair(context: &Context, args: &RepairArgs) -> Result<(), Failure> {
    let dir = dir_of(context, None)?;
    let mut report = Store::repair_journal(&dir, true)?;
    if !context.json {
        output::text(&tell_repair(&report, &dir))?;
    }
    if report.is_needed() && args.yes {
        report = Store::repair_journal(&dir, false)?;
        if !context.json {
            output::line("done: open the store to go on")?;
        }
    }
    if context.json {
        output::json(&report)?;
    }
    if report.is_needed() && !report.done && !args.dry_run {
        return Err(Failure::new(Code::Usage, "nothing was done: add --yes to lose that, or --dry-run"));
    }
    Ok(())
}

fn tell_repair(report: &JournalRepair, dir: &Path) -> String {
    let mut text = String::new();
    if let Some(damage) = &report.damage {
        let lost = damage.last_lost.saturating_sub(damage.first_lost) + 1;
        text.push_str(&format!(
            "{}\nlost: records {} to {} ({}), of which {} beyond the damage can be read ({} bytes)\n",
            damage.what,
            damage.first_lost,
            damage.last_lost,
            group_digits(lost),
            group_digits(damage.readable_records),
            group_digits(damage.readable_bytes),
        ));
    }
    if let Some(why) = &report.failed {
        text.push_str(&format!(
            "the disk failed ({why}): the rings are made anew from what it has\n\
             lost: what was accepted and never confirmed, as far as it did not get to the disk\n"
        ));
    }
    if text.is_empty() {
        text = format!("the journal in {} is whole: there is nothing to repair\n", dir.display());
    }
    text
}
