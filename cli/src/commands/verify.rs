//! `ringway verify`: every invariant that the files can show, checked without changing anything.

use ringway::VerifyReport;
use serde::Serialize;

use super::Context;
use crate::exit::{Code, Failure};
use crate::output;
use crate::units::group_digits;

#[derive(Debug, Serialize)]
struct Verified {
    queue: String,
    #[serde(flatten)]
    report: VerifyReport,
}

pub(super) fn run(context: &Context, queue: Option<&str>) -> Result<(), Failure> {
    let store = context.store()?;
    let names = match queue {
        Some(name) => vec![name.to_string()],
        None => store.queues()?,
    };
    let mut verified = Vec::new();
    // A queue that cannot be opened does not keep the others from being checked.
    let mut failed = None;
    for queue in names {
        match store.queue(&queue).and_then(|queue| queue.verify()) {
            Ok(report) => verified.push(Verified { queue, report }),
            Err(error) => failed = failed.or(Some(Failure::from(error))),
        }
    }
    if context.json {
        output::json(&verified)?
    } else {
        output::text(&tell(&verified))?
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    match verified.iter().map(|v| v.report.violations.len()).sum() {
        0 => Ok(()),
        found => {
            let noun = if found == 1 { "violation" } else { "violations" };
            Err(Failure::new(Code::Violated, format!("{found} {noun} found: drain and recreate the queue")))
        }
    }
}

fn tell(verified: &[Verified]) -> String {
    let summary = verified.iter().map(|v| {
        let counts = [v.report.checked, v.report.violations.len() as u64].map(group_digits);
        [vec![v.queue.clone()], counts.to_vec()].concat()
    });
    let mut text = output::table(&["queue", "words checked", "violations"], summary.collect(), 2);
    let rows = verified.iter().flat_map(|v| {
        v.report.violations.iter().map(|found| vec![v.queue.clone(), found.place.clone(), found.what.clone()])
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&output::table(&["queue", "place", "violation"], rows, 0));
    }
    text
}
