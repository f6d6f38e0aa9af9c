//! `ringway publish`: the argument, stdin whole, or stdin line by line.
//!
//! A line is published as soon as it was read. They are not handed over in batches: a batch goes on behind
//! a message that was refused, and here the first line that cannot be taken ends it: the lines
//! before it are in, none after.

use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;

use indicatif::ProgressBar;
use ringway::{Message, OnFull, Payload, Producer, PublishError, PublishFailure, Queue};
use serde::Serialize;
use serde::de::IgnoredAny;

use super::{Context, check_durable};
use crate::args::PublishArgs;
use crate::exit::{Code, Failure};
use crate::output;
use crate::units::group_digits;

/// What was published so far.
#[derive(Debug, Default, Serialize)]
pub(super) struct Published {
    pub(super) published: u64,
    first_position: Option<u64>,
    last_position: Option<u64>,
    /// Whether all of them are known to be durable, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed: Option<bool>,
}

impl Published {
    pub(super) fn add(&mut self, position: u64) {
        self.published += 1;
        self.first_position.get_or_insert(position);
        self.last_position = Some(position);
    }
}

pub(super) fn run(context: &Context, args: PublishArgs) -> Result<(), Failure> {
    let store = context.store()?;
    let queue = store.queue(&args.queue)?;
    if args.confirm {
        check_durable(&store)?;
    }
    let mut builder = queue.producer();
    if let Some(timeout) = args.timeout {
        builder = builder.on_full(OnFull::Block(timeout));
    }
    let mut publisher = Publisher::new(&queue, builder.build()?, template(&args));
    let lines = args.lines || args.jsonl;
    let outcome = match args.message {
        Some(message) => publisher.publish(message.into_vec()),
        None if lines => publisher.publish_lines(io::stdin().lock(), args.jsonl),
        None => publisher.publish_whole(io::stdin().lock()),
    };
    publisher.progress.finish_and_clear();
    let outcome = outcome.and_then(|()| publisher.confirm(args.confirm));
    let published = publisher.published;
    if let Err(failure) = outcome {
        if context.json {
            // That it cannot be printed is the lesser failure.
            let _ = output::json(&published);
        }
        let count = group_digits(published.published);
        return Err(if lines && published.confirmed.is_none() {
            failure.and(format!("{count} before it were published, none after"))
        } else {
            failure
        });
    }
    if context.json { output::json(&published) } else { output::line(tell(&published)) }
}

pub(super) fn tell(published: &Published) -> String {
    let mut text = tell_positions(published);
    if published.confirmed == Some(true) {
        text.push_str(", confirmed");
    }
    text
}

fn tell_positions(published: &Published) -> String {
    match (published.published, published.first_position, published.last_position) {
        (1, Some(position), _) => format!("published 1 message at position {position}"),
        (count, Some(first), Some(last)) => {
            format!("published {} messages at positions {first} to {last}", group_digits(count))
        }
        _ => "published nothing".to_string(),
    }
}

/// A message with the headers that all have, and no payload.
fn template(args: &PublishArgs) -> Message {
    let mut message = Message::default();
    if let Some(message_type) = &args.message_type {
        message = message.with_type(message_type);
    }
    if let Some(id) = &args.correlation_id {
        message = message.with_correlation_id(id);
    }
    match &args.content_type {
        Some(content_type) => message = message.with_content_type(content_type),
        None if args.jsonl => message = message.with_content_type("application/json"),
        None => {}
    }
    if let Some(traceparent) = &args.traceparent {
        message = message.with_traceparent(traceparent);
    }
    args.headers.iter().fold(message, |message, (name, value)| message.with_header(name, value))
}

/// A payload under the headers of the template, which are encoded once for all.
struct Templated<'t> {
    template: &'t Message,
    payload: Vec<u8>,
}

impl Payload for Templated<'_> {
    fn encoded_headers(&self) -> &[u8] {
        self.template.encoded_headers()
    }

    fn payload_bytes(&self) -> &[u8] {
        &self.payload
    }

    fn header_problem(&self) -> Option<PublishFailure> {
        self.template.header_problem()
    }
}

struct Publisher {
    producer: Producer,
    template: Message,
    /// The longest message of the queue, headers included.
    limit: usize,
    published: Published,
    progress: ProgressBar,
}

impl Publisher {
    fn new(queue: &Queue, producer: Producer, template: Message) -> Publisher {
        Publisher {
            producer,
            template,
            limit: queue.max_message(),
            published: Published::default(),
            progress: ProgressBar::hidden(),
        }
    }

    /// Waits until all is durable, if that was asked for.
    fn confirm(&mut self, asked: bool) -> Result<(), Failure> {
        if asked {
            self.published.confirmed = Some(false);
            self.producer.flush()?;
            self.published.confirmed = Some(true);
        }
        Ok(())
    }

    fn publish_whole(&mut self, mut input: impl Read) -> Result<(), Failure> {
        let mut payload = Vec::new();
        // One byte over the limit is enough to be refused; the rest need not fit into memory.
        let most = self.limit as u64 + 1;
        input.by_ref().take(most).read_to_end(&mut payload).map_err(|e| Failure::io("reading stdin", &e))?;
        if payload.len() as u64 == most {
            return Err(self.too_long());
        }
        self.publish(payload)
    }

    fn publish_lines(&mut self, input: impl Read, json: bool) -> Result<(), Failure> {
        if !io::stdin().is_terminal() {
            self.progress = output::progress("published");
        }
        let mut input = BufReader::with_capacity(256 << 10, input);
        let most = self.limit as u64 + 1;
        for number in 1_u64.. {
            let mut line = Vec::new();
            let read = input.by_ref().take(most).read_until(b'\n', &mut line);
            if read.map_err(|e| Failure::io("reading stdin", &e))? == 0 {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            let checked = self.check_line(&line, json).and_then(|()| self.publish(line));
            checked.map_err(|failure| failure.about(format!("line {number}")))?;
        }
        Ok(())
    }

    fn check_line(&self, line: &[u8], json: bool) -> Result<(), Failure> {
        if line.len() > self.limit {
            return Err(self.too_long());
        }
        if json { check_json(line) } else { Ok(()) }
    }

    fn too_long(&self) -> Failure {
        let limit = group_digits(self.limit as u64);
        let todo = "send less, or create the queue with a larger --max-message";
        Failure::new(Code::Failed, format!("longer than the {limit} bytes that the queue takes: {todo}"))
    }

    fn publish(&mut self, payload: Vec<u8>) -> Result<(), Failure> {
        let receipt = self.producer.publish(Templated { template: &self.template, payload });
        let position = receipt.map_err(|PublishError { failure, .. }| failure)?.position;
        self.published.add(position);
        self.progress.inc(1);
        Ok(())
    }
}

/// Whether this is one JSON value and nothing else.
fn check_json(line: &[u8]) -> Result<(), Failure> {
    let bad = |what: String| Failure::new(Code::Failed, format!("not valid JSON: {what}"));
    let text =
        std::str::from_utf8(line).map_err(|e| bad(format!("byte {} is not UTF-8", e.valid_up_to() + 1)))?;
    // The line number in serde_json's message is that within this one line.
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|e| {
        let what = e.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        bad(format!("{what} at column {}", e.column()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines() {
        for good in ["{}", " [1, 2]\r", "\"ż\"", "1e999", "null"] {
            assert!(check_json(good.as_bytes()).is_ok(), "{good:?} was refused");
        }
        for bad in [&b""[..], b" ", b"{", b"{} {}", b"\xef\xbb\xbf{}", b"\"\xff\"", b"'a'", b"nul"] {
            assert!(check_json(bad).is_err(), "{:?} was accepted", String::from_utf8_lossy(bad));
        }
        // Deep enough to overflow the stack of a reader that descends.
        let deep = ["[".repeat(1 << 20), "]".repeat(1 << 20)].concat();
        assert!(check_json(deep.as_bytes()).is_ok());
    }
}
