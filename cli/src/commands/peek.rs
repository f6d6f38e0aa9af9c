//! `ringway peek`: messages, looked at without a lease.

use ringway::{MessageState, Peeked};
use serde::Serialize;

use super::Context;
use crate::args::PeekArgs;
use crate::exit::Failure;
use crate::output::{self, Content};

#[derive(Debug, Serialize)]
struct Record<'a> {
    position: u64,
    state: MessageState,
    failures: u16,
    #[serde(flatten)]
    content: Content<'a>,
}

pub(super) fn run(context: &Context, args: &PeekArgs) -> Result<(), Failure> {
    let messages = context.queue(&args.queue)?.peek(&args.group, args.limit)?;
    if !context.json {
        return output::text(&table(&messages));
    }
    let mut lines = Vec::new();
    for message in &messages {
        let content = Content::new(message.headers(), &message.payload);
        let record =
            Record { position: message.position, state: message.state, failures: message.failures, content };
        output::json_line(&mut lines, &record)?;
    }
    output::Out::open()?.write(&lines).map_err(|(_, failure)| failure)
}

fn table(messages: &[Peeked]) -> String {
    let rows = messages.iter().map(|message| {
        vec![
            message.position.to_string(),
            state(message.state).to_string(),
            message.failures.to_string(),
            output::preview(message.headers().message_type().unwrap_or("-").as_bytes(), 24),
            output::preview(&message.payload, 60),
        ]
    });
    output::table(&["position", "state", "failures", "type", "payload"], rows.collect(), 0)
}

/// A state as JSON has it.
pub(super) fn state(state: MessageState) -> &'static str {
    match state {
        MessageState::Ready => "ready",
        MessageState::Leased => "leased",
        MessageState::Retrying => "retrying",
        MessageState::Dead => "dead",
        _ => "other",
    }
}
