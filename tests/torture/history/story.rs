//! The life of one message, told to whoever has to find out what went wrong.

use std::collections::HashMap;

use super::{Call, End, History, Id, Ms, Nanos, Process, Published};

impl History {
    /// Everything that happened to a message, a line each, in the order in which the calls began.
    /// The end of a process is part of it if the process had to do with the message.
    pub(crate) fn story(&self, id: u64) -> Vec<String> {
        let start = self.start();
        let mut lines: Vec<(Nanos, String)> = Vec::new();
        for process in &self.processes {
            let told = lines.len();
            tell(process, id, start, &mut lines);
            if lines.len() == told {
                continue;
            }
            if let End::Killed { sent, gone } = process.end {
                lines.push((sent, format!("{}: killed, gone by {}", process.name, Ms(gone, start))));
            }
            for &(from, to) in &process.pauses {
                lines.push((from, format!("{}: stopped until {}", process.name, Ms(to, start))));
            }
        }
        lines.sort();
        lines.into_iter().map(|(at, line)| format!("{:>12} ms  {line}", Ms(at, start).to_string())).collect()
    }
}

/// The calls of one process that concern the message.
fn tell(process: &Process, id: u64, start: Nanos, lines: &mut Vec<(Nanos, String)>) {
    let mut held = HashMap::new();
    for call in &process.calls {
        let text = match *call {
            Call::Publish { id: of, answer, .. } if of == id => match answer {
                Some((at, Published::Accepted { position })) => {
                    format!("publish -> accepted at position {position} by {}", Ms(at, start))
                }
                Some((at, Published::Refused)) => format!("publish -> refused by {}", Ms(at, start)),
                None => "publish -> never answered".to_owned(),
            },
            Call::Receive { got: Some((at, got)), .. } => {
                held.insert(got.tag, got.id);
                if got.id != id {
                    continue;
                }
                let intact = if got.intact { "" } else { ", PAYLOAD DAMAGED" };
                format!(
                    "receive -> {} at position {}, attempt {}, failures {}, by {}{intact}",
                    Id(id),
                    got.position,
                    got.attempt,
                    got.failures,
                    Ms(at, start)
                )
            }
            Call::Settle { tag, verb, answer, .. } if held.get(&tag) == Some(&id) => match answer {
                Some((at, settled)) => format!("{verb:?} -> {settled:?} by {}", Ms(at, start)),
                None => format!("{verb:?} -> never answered"),
            },
            Call::Bury { dead, verb, answer, .. } if dead.id == id => match answer {
                Some((at, done)) => format!("{verb:?} of the dead letter -> {done} by {}", Ms(at, start)),
                None => format!("{verb:?} of the dead letter -> never answered"),
            },
            _ => continue,
        };
        lines.push((call.began(), format!("{}: {text}", process.name)));
    }
}
