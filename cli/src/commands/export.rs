//! `ringway export`: every message that some group has not settled, as JSON lines.
//!
//! To stdout it is like any other output. To a file it is all or nothing: signals are listened to, so that
//! nothing half is left behind.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use indicatif::ProgressBar;
use ringway::{Browsed, DeadReason, GroupInfo, MessageState, Queue, Standing};
use serde::{Serialize, Serializer};

use super::{Context, peek};
use crate::args::transfer::ExportArgs;
use crate::exit::{Code, Failure};
use crate::lines::Header;
use crate::output::{self, Content, NewFile, Out};
use crate::signals::Stop;
use crate::units::group_digits;

/// Bytes that are written at a time.
const CHUNK: usize = 256 << 10;

#[derive(Debug, Serialize)]
struct Record<'a> {
    position: u64,
    groups: Standings<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    damaged: bool,
    #[serde(flatten)]
    content: Content<'a>,
}

/// By the groups' names.
#[derive(Debug)]
struct Standings<'a>(&'a [Standing]);

impl Serialize for Standings<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|standing| (&*standing.group, Shown::of(standing))))
    }
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    state: MessageState,
    failures: u16,
    attempts: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<DeadReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
}

impl Shown<'_> {
    fn of(standing: &Standing) -> Shown<'_> {
        let Standing { state, failures, attempts, reason, .. } = *standing;
        Shown { state, failures, attempts, reason, description: standing.description.as_deref() }
    }
}

/// What was done, for `--output`.
#[derive(Debug, Serialize)]
struct Exported<'a> {
    exported: u64,
    damaged: u64,
    output: &'a Path,
}

pub(super) fn run(context: &Context, args: &ExportArgs) -> Result<(), Failure> {
    let queue = context.queue(&args.queue)?;
    let mut exporter = Exporter::new(args)?;
    let outcome = exporter.export(&queue, args);
    exporter.progress.finish_and_clear();
    let Exporter { target, exported, damaged, .. } = exporter;
    if let Target::File(file) = target {
        let path = file.path().to_path_buf();
        let unchanged = |failure: Failure| failure.and(format!("{} is as it was", path.display()));
        outcome.and_then(|()| file.finish()).map_err(unchanged)?;
        if context.json {
            output::json(&Exported { exported, damaged, output: &path })?;
        } else {
            let noun = if exported == 1 { "message" } else { "messages" };
            output::line(format!("exported {} {noun} to {}", group_digits(exported), path.display()))?;
        }
    } else {
        outcome?;
    }
    if damaged == 0 {
        return Ok(());
    }
    let message = format!(
        "another process has damaged {} of {} messages, which were exported without a payload: \
         `ringway verify` looks for more",
        group_digits(damaged),
        group_digits(exported)
    );
    Err(Failure::new(Code::Damaged, message))
}

#[derive(Debug)]
enum Target {
    Stdout(Out),
    File(NewFile),
}

#[derive(Debug)]
struct Exporter {
    target: Target,
    /// Not listened to for stdout: a write to a reader that does not read could not be ended by it.
    stop: Option<Arc<Stop>>,
    json_payloads: bool,
    /// Lines that were not written yet.
    buffer: Vec<u8>,
    exported: u64,
    damaged: u64,
    progress: ProgressBar,
}

impl Exporter {
    fn new(args: &ExportArgs) -> Result<Exporter, Failure> {
        let (target, stop, progress) = match &args.output {
            Some(path) => {
                let stop = Stop::listen()?;
                (Target::File(NewFile::create(path)?), Some(stop), output::progress("exported"))
            }
            None => (Target::Stdout(Out::open()?), None, ProgressBar::hidden()),
        };
        let (buffer, json_payloads) = (Vec::new(), args.json_payloads);
        Ok(Exporter { target, stop, json_payloads, buffer, exported: 0, damaged: 0, progress })
    }

    fn export(&mut self, queue: &Queue, args: &ExportArgs) -> Result<(), Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let info = queue.info()?;
        let is_wanted = |group: &&GroupInfo| args.groups.is_empty() || args.groups.contains(&group.name);
        let groups: Vec<&GroupInfo> = info.groups.iter().filter(is_wanted).collect();
        let names: Vec<&str> = match args.groups.as_slice() {
            [] => groups.iter().map(|group| group.name.as_str()).collect(),
            // One that is not there is an error, and one that was told twice is one.
            told => told.iter().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect(),
        };
        let states: Vec<MessageState> = args.states.iter().map(|&state| state.into()).collect();
        let messages = queue.browse(&names, &states)?;
        let states = states.into_iter().map(|state| peek::state(state).to_string()).collect();
        let header = Header::new(&info, &groups, states, u64::try_from(now).unwrap_or(u64::MAX));
        output::json_line(&mut self.buffer, &header)?;
        for message in messages {
            self.check_stop()?;
            self.append(&message?)?;
            if self.buffer.len() >= CHUNK {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn append(&mut self, message: &Browsed) -> Result<(), Failure> {
        let content = match (message.damaged, self.json_payloads) {
            (true, _) => Content::headers(message.headers()),
            (false, true) => Content::with_json(message.headers(), &message.payload),
            (false, false) => Content::new(message.headers(), &message.payload),
        };
        let groups = Standings(&message.groups);
        let record = Record { position: message.position, groups, damaged: message.damaged, content };
        output::json_line(&mut self.buffer, &record)?;
        self.exported += 1;
        self.damaged += u64::from(message.damaged);
        self.progress.inc(1);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        match &mut self.target {
            Target::Stdout(out) => out.write(&self.buffer).map_err(|(_, failure)| failure)?,
            Target::File(file) => file.write(&self.buffer)?,
        }
        self.buffer.clear();
        Ok(())
    }

    fn check_stop(&self) -> Result<(), Failure> {
        match &self.stop {
            Some(stop) if stop.asked() => {
                // Even by SIGTERM: what was asked for is not there.
                stop.outcome()?;
                Err(Failure::new(Code::Failed, "stopped by SIGTERM before the end"))
            }
            _ => Ok(()),
        }
    }
}
