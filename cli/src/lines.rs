//! Messages as JSON lines: what `export` writes and `import` reads.
//!
//! The first line of an export is a [`Header`]; every other line is one message. A header is known by its key
//! `ringway_export`, whose value is the version of the format, so `import` tells one wherever it comes: exports
//! may be put behind each other.
//!
//! Of a message's keys, those that are part of the message make the new one; those that tell where it stood (its
//! position, its states) are known and ignored; any other is an error, since a header that was misspelt would
//! else be lost. So the lines of `peek`, `dead ls` and `consume` with `--json` can be read, too.
//!
//! A payload is in one of three keys. `payload` is text, `payload_base64` is any bytes, and both come back byte
//! by byte. `payload_json` is the JSON text as it stands on the line, with its white space and its digits.

use std::fmt;

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::{DecodeError, Engine};
use ringway::{Backoff, GroupInfo, GroupOptions, Message, Order, QueueInfo};
use serde::de::{self, IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::exit::{Code, Failure};

/// The version of the format.
const VERSION: u32 = 1;

/// The key that makes a line a header.
const MARK: &str = "\"ringway_export\"";

/// The first line of an export: the queue.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    ringway_export: u32,
    queue: String,
    pub(crate) capacity: u32,
    pub(crate) slot_size: u32,
    pub(crate) max_message: u32,
    pub(crate) max_groups: u32,
    pub(crate) groups: Vec<Group>,
    /// The states that were asked for; none for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    states: Vec<String>,
    /// The host's time when the export began.
    time_unix_ms: u64,
}

/// A group in the header.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    pub(crate) name: String,
    order: Order,
    max_deliveries: u16,
    backoff_ms: u64,
    backoff_cap_ms: u64,
    jitter_percent: u8,
}

impl Header {
    pub(crate) fn new(info: &QueueInfo, groups: &[&GroupInfo], states: Vec<String>, now: u64) -> Header {
        Header {
            ringway_export: VERSION,
            queue: info.name.clone(),
            // A queue has at most 2^24 slots.
            capacity: u32::try_from(info.capacity).unwrap_or(u32::MAX),
            slot_size: info.slot_size,
            max_message: info.max_message,
            max_groups: info.max_groups,
            groups: groups.iter().map(|group| Group::new(group)).collect(),
            states,
            time_unix_ms: now,
        }
    }
}

impl Group {
    fn new(info: &GroupInfo) -> Group {
        let GroupOptions { order, max_deliveries, backoff, .. } = info.options;
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Group {
            name: info.name.clone(),
            order,
            max_deliveries,
            backoff_ms: millis(backoff.base),
            backoff_cap_ms: millis(backoff.cap),
            jitter_percent: backoff.jitter_percent,
        }
    }

    pub(crate) fn options(&self) -> GroupOptions {
        let millis = std::time::Duration::from_millis;
        let backoff = Backoff {
            base: millis(self.backoff_ms),
            cap: millis(self.backoff_cap_ms),
            jitter_percent: self.jitter_percent,
        };
        let Group { order, max_deliveries, .. } = *self;
        GroupOptions { order, max_deliveries, backoff, ..GroupOptions::default() }
    }
}

/// What a line says.
#[derive(Debug)]
pub(crate) enum Line {
    /// A header of this version.
    Header,
    Message(Message),
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    /// Where, from 1.
    pub(crate) column: usize,
    what: String,
    /// Whether the whole input is of another version.
    pub(crate) version: bool,
}

impl Bad {
    pub(crate) fn new(column: usize, what: impl Into<String>) -> Bad {
        Bad { column, what: what.into(), version: false }
    }

    fn json(line: &str, error: &serde_json::Error) -> Bad {
        let text = error.to_string();
        // Here a line is all there is, so of the place only the column is of use.
        let what = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
        let column = error.column().max(1);
        let found = line.get(column - 1..).and_then(|rest| rest.chars().next());
        Bad::new(
            column,
            match found {
                Some(found) if error.is_syntax() => format!("not valid JSON: found {found:?}: {what}"),
                _ if error.is_syntax() || error.is_eof() => {
                    format!("not valid JSON: found the end of the line: {what}")
                }
                _ => shorten(what),
            },
        )
    }

    /// The same as a failure, about this line.
    pub(crate) fn failure(self, line: u64) -> Failure {
        let code = if self.version { Code::Damaged } else { Code::Failed };
        Failure::new(code, self.what).about(format!("line {line}, column {}", self.column))
    }
}

/// Cuts the middle out of a text that would be too long to read: part of it is somebody's payload.
fn shorten(text: &str) -> String {
    const START: usize = 120;
    const END: usize = 400;
    if text.chars().count() <= START + END {
        return text.to_string();
    }
    let chars: Vec<char> = text.chars().collect();
    let (start, end) = (&chars[..START], &chars[chars.len() - END..]);
    start.iter().chain(&['…']).chain(end).collect()
}

/// Reads a line.
pub(crate) fn read(line: &[u8]) -> Result<Line, Bad> {
    let text = text(line)?;
    if version(text)?.is_some() {
        return Ok(Line::Header);
    }
    let record: Record<'_> = serde_json::from_str(text).map_err(|error| Bad::json(text, &error))?;
    record.message().map(Line::Message)
}

/// Reads a line that must be a header.
pub(crate) fn read_header(line: &[u8]) -> Result<Header, Bad> {
    let text = text(line)?;
    if version(text)?.is_none() {
        let what =
            "found no header of an export, which --create needs to know the queue: make the queue first";
        return Err(Bad::new(1, what));
    }
    serde_json::from_str(text).map_err(|error| Bad::json(text, &error))
}

fn text(line: &[u8]) -> Result<&str, Bad> {
    let text = str::from_utf8(line).map_err(|error| {
        let at = error.valid_up_to();
        Bad::new(at + 1, format!("found the byte {:#04x}, expected UTF-8", line[at]))
    })?;
    // Asked first, since an array would be taken for the object's values.
    match text.char_indices().find(|(_, c)| !c.is_ascii_whitespace()) {
        Some((_, '{')) => Ok(text),
        Some((at, found)) => Err(Bad::new(at + 1, format!("found {found:?}, expected a JSON object"))),
        None => Err(Bad::new(1, "found an empty line, expected a JSON object")),
    }
}

/// The format's version if the line is a header: this one.
fn version(text: &str) -> Result<Option<u32>, Bad> {
    #[derive(Deserialize)]
    struct Probe<'a> {
        #[serde(borrow)]
        ringway_export: Option<&'a RawValue>,
    }
    // In a message it can only stand in a payload.
    if !text.contains(MARK) {
        return Ok(None);
    }
    let probe: Probe<'_> = match serde_json::from_str(text) {
        Ok(probe) => probe,
        // To be told by whoever reads it for what it is.
        Err(_) => return Ok(None),
    };
    let Some(found) = probe.ringway_export else { return Ok(None) };
    if found.get() == VERSION.to_string() {
        return Ok(Some(VERSION));
    }
    let column = found.get().as_ptr() as usize - text.as_ptr() as usize + 1;
    let what = format!(
        "found an export of version {}, expected {VERSION}: import it with a build of that version",
        shorten(found.get())
    );
    Err(Bad { version: true, ..Bad::new(column, what) })
}

/// A message on a line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<'a> {
    #[serde(rename = "type")]
    message_type: Option<String>,
    correlation_id: Option<String>,
    content_type: Option<String>,
    traceparent: Option<String>,
    tracestate: Option<String>,
    #[serde(default)]
    headers: Vec<UserHeader>,
    payload: Option<String>,
    payload_base64: Option<Bytes>,
    #[serde(borrow, default, deserialize_with = "whatever")]
    payload_json: Option<&'a RawValue>,
    damaged: Option<bool>,
    #[serde(default, rename = "position")]
    _position: IgnoredAny,
    #[serde(default, rename = "groups")]
    _groups: IgnoredAny,
    #[serde(default, rename = "state")]
    _state: IgnoredAny,
    #[serde(default, rename = "attempt")]
    _attempt: IgnoredAny,
    #[serde(default, rename = "attempts")]
    _attempts: IgnoredAny,
    #[serde(default, rename = "failures")]
    _failures: IgnoredAny,
    #[serde(default, rename = "reason")]
    _reason: IgnoredAny,
    #[serde(default, rename = "description")]
    _description: IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with a name and a value")]
struct UserHeader {
    name: String,
    value: String,
}

/// Any JSON, `null` as well.
fn whatever<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

impl Record<'_> {
    fn message(self) -> Result<Message, Bad> {
        let payload = match (self.payload, self.payload_base64, self.payload_json) {
            (Some(text), None, None) => text.into_bytes(),
            (None, Some(Bytes(bytes)), None) => bytes,
            (None, None, Some(json)) => json.get().as_bytes().to_vec(),
            (None, None, None) if self.damaged == Some(true) => {
                return Err(Bad::new(
                    1,
                    "found a message that was damaged when it was exported, expected one with a payload",
                ));
            }
            (None, None, None) => {
                return Err(Bad::new(
                    1,
                    "found no payload, expected payload, payload_base64 or payload_json",
                ));
            }
            _ => {
                let what =
                    "found more than one payload, expected one of payload, payload_base64 and payload_json";
                return Err(Bad::new(1, what));
            }
        };
        let mut message = Message::new(payload);
        let set = |message: Message, value: &Option<String>, with: fn(Message, &str) -> Message| match value {
            Some(value) => with(message, value),
            None => message,
        };
        message = set(message, &self.message_type, Message::with_type);
        message = set(message, &self.correlation_id, Message::with_correlation_id);
        message = set(message, &self.content_type, Message::with_content_type);
        message = set(message, &self.traceparent, Message::with_traceparent);
        message = set(message, &self.tracestate, Message::with_tracestate);
        Ok(self
            .headers
            .iter()
            .fold(message, |message, header| message.with_header(&header.name, &header.value)))
    }
}

/// Bytes as base64.
#[derive(Debug)]
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                BASE64.decode(text).map(Bytes).map_err(|error| E::custom(not_base64(text, &error)))
            }
        }
        from.deserialize_str(Text)
    }
}

fn not_base64(text: &str, error: &DecodeError) -> String {
    let found = match *error {
        DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol { offset: at, .. } => {
            let found =
                text.get(at..).and_then(|rest| rest.chars().next()).unwrap_or(char::REPLACEMENT_CHARACTER);
            format!("{found:?} as its character {}", at + 1)
        }
        DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => format!("{} characters", text.len()),
    };
    format!(
        "payload_base64: found {found}, expected base64 (A-Z a-z 0-9 + /, filled up with = to a multiple of 4)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(line: &str) -> Message {
        match read(line.as_bytes()) {
            Ok(Line::Message(message)) => message,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn payloads() {
        for (line, payload) in [
            (r#"{"payload":"a\u0000ż\n"}"#, "a\0ż\n".as_bytes()),
            (r#"{"payload":""}"#, b""),
            (r#"{"payload_base64":"AP8K"}"#, b"\x00\xff\n"),
            (r#"{"payload_base64":""}"#, b""),
            (r#"{"payload_base64":"AP8\u004b"}"#, b"\x00\xff\n"),
            (r#"{"payload_json": [1.50, 1e999,  {"a":1,"a":2}] }"#, br#"[1.50, 1e999,  {"a":1,"a":2}]"#),
            (r#"{"payload_json":null}"#, b"null"),
            (r#"{"payload_json":{"ringway_export":7}}"#, br#"{"ringway_export":7}"#),
            (r#"{"position":1,"groups":{"g":[]},"state":"x","attempt":2,"payload":"p"}"#, b"p"),
        ] {
            assert_eq!(message(line).payload(), payload, "{line}");
        }
        let deep = ["[".repeat(1 << 20), "]".repeat(1 << 20)].concat();
        assert!(message(&format!("{{\"payload_json\":{deep}}}")).payload() == deep.as_bytes());
    }

    #[test]
    fn headers() {
        let line = r#"{"type":"t","correlation_id":"c","content_type":"x","traceparent":"p","tracestate":"s",
            "headers":[{"name":"a","value":"1"},{"value":"2","name":"a"}],"payload":""}"#;
        let expected = Message::new("")
            .with_type("t")
            .with_correlation_id("c")
            .with_content_type("x")
            .with_traceparent("p")
            .with_tracestate("s")
            .with_header("a", "1")
            .with_header("a", "2");
        assert_eq!(message(line), expected);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (line, column, what) in [
            (&b"{\"payload\":\"\xff\"}"[..], 13, "found the byte 0xff, expected UTF-8"),
            (b" \r", 1, "found an empty line"),
            (b"{", 1, "found the end of the line"),
            (b"{\"payload\":x}", 12, "not valid JSON: found 'x': expected value"),
            (b"{\"payload\":\"p\"} ?", 17, "not valid JSON: found '?': trailing characters"),
            (b"{\"payload\":5}", 12, "invalid type: integer `5`, expected a string"),
            (b" [1]", 2, "found '[', expected a JSON object"),
            (b"\xef\xbb\xbf{}", 1, "found '\\u{feff}', expected a JSON object"),
            (b"{\"paylod\":\"\"}", 9, "unknown field `paylod`, expected one of `type`"),
            (b"{\"payload\":\"\",\"payload\":\"\"}", 23, "duplicate field `payload`"),
            (b"{\"type\":\"t\"}", 1, "found no payload"),
            (b"{\"payload\":null}", 1, "found no payload"),
            (b"{\"damaged\":true}", 1, "damaged when it was exported"),
            (b"{\"payload\":\"\",\"payload_json\":1}", 1, "found more than one payload"),
            (b"{\"payload_base64\":\"AA!A\"}", 24, "found '!' as its character 3, expected base64"),
            (b"{\"payload_base64\":\"AAA\"}", 23, "found 3 characters, expected base64"),
            (b"{\"payload_base64\":\"AA\xc5\xbc=\"}", 25, "found 'ż' as its character 3"),
            (b"{\"payload\":\"\",\"headers\":{}}", 24, "expected a sequence"),
            (b"{\"payload\":\"\",\"headers\":[{\"name\":\"n\"}]}", 37, "missing field `value`"),
            (b"{\"ringway_export\":2}", 19, "found an export of version 2, expected 1"),
            (b"{\"ringway_export\":\"x\"}", 19, "found an export of version \"x\", expected 1"),
        ] {
            let shown = String::from_utf8_lossy(line);
            match read(line) {
                Err(bad) => {
                    assert!(bad.what.contains(what), "{shown}: {}", bad.what);
                    assert!(bad.column == column, "{shown}: column {}", bad.column);
                    assert_eq!(bad.version, what.contains("version"), "{shown}");
                }
                Ok(line) => panic!("{shown}: {line:?}"),
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_a_few_words() {
        let long = "x".repeat(1 << 20);
        for line in [format!("{{\"{long}\":1}}"), format!("{{\"headers\":\"{long}\"}}")] {
            let bad = read(line.as_bytes()).expect_err("wrong");
            assert!(bad.what.len() < 600 && bad.what.contains("expected"), "{}", bad.what);
        }
    }

    #[test]
    fn a_header_must_be_whole_only_where_it_is_needed() {
        assert!(matches!(read(b"{\"queue\":\"q\",\"ringway_export\":1}"), Ok(Line::Header)));
        let bad = read_header(b"{\"ringway_export\":1}").expect_err("no geometry");
        assert!(bad.what.contains("missing field `queue`"), "{}", bad.what);
        let bad = read_header(b"{\"payload\":\"\"}").expect_err("a message");
        assert!(bad.what.contains("found no header"), "{}", bad.what);
    }
}
