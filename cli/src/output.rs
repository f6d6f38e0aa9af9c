//! Writing to stdout: text, tables, JSON, messages.
//!
//! Everything is written by `write` calls whose errors are looked at: a reader that went away ends the
//! command quietly, and a message counts as printed only when all of its bytes were taken.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use ringway::HeadersRef;
use serde::Serialize;

use crate::exit::Failure;

/// Stdout without a buffer of its own.
#[derive(Debug)]
pub(crate) struct Out {
    file: File,
}

impl Out {
    pub(crate) fn open() -> Result<Out, Failure> {
        let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(|e| Failure::stdout(&e))?;
        Ok(Out { file: File::from(stdout) })
    }

    /// Writes all of it, and says how much was taken if not.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), (usize, Failure)> {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.file.write(&bytes[taken..]) {
                Ok(0) => return Err((taken, Failure::stdout(&io::ErrorKind::WriteZero.into()))),
                Ok(n) => taken += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err((taken, Failure::stdout(&e))),
            }
        }
        Ok(())
    }
}

/// Prints this text.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    Out::open()?.write(text.as_bytes()).map_err(|(_, failure)| failure)
}

/// Prints this line.
pub(crate) fn line(line: impl std::fmt::Display) -> Result<(), Failure> {
    text(&format!("{line}\n"))
}

/// Prints this value as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let mut line = Vec::new();
    json_line(&mut line, value)?;
    Out::open()?.write(&line).map_err(|(_, failure)| failure)
}

/// Appends this value as one line of JSON.
pub(crate) fn json_line(to: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer(&mut *to, value).map_err(|e| Failure::io("writing JSON", &e.into()))?;
    to.push(b'\n');
    Ok(())
}

/// A table: the first columns are text, the last `numbers` ones are aligned to the right.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>, numbers: usize) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header.iter().copied());
    }
    table.add_rows(rows);
    let columns = table.column_count();
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index + numbers >= columns {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A payload as one short line for people: control characters shown, cut after `most` characters.
pub(crate) fn preview(payload: &[u8], most: usize) -> String {
    // No character is longer than 4 bytes: what is beyond cannot be shown, so it is not decoded either.
    let start = &payload[..payload.len().min(most * 4)];
    let mut shown = String::new();
    for (count, c) in String::from_utf8_lossy(start).chars().enumerate() {
        if count == most {
            break;
        }
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    if payload.len() > start.len() || String::from_utf8_lossy(start).chars().count() > most {
        shown.push('…');
    }
    shown
}

/// The headers and the payload of a message, as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Content<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    message_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<UserHeader<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

#[derive(Debug, Serialize)]
struct UserHeader<'a> {
    name: &'a str,
    value: &'a str,
}

impl<'a> Content<'a> {
    pub(crate) fn new(headers: HeadersRef<'a>, payload: &'a [u8]) -> Content<'a> {
        let text = std::str::from_utf8(payload).ok();
        Content {
            message_type: headers.message_type(),
            correlation_id: headers.correlation_id(),
            content_type: headers.content_type(),
            traceparent: headers.traceparent(),
            tracestate: headers.tracestate(),
            headers: headers.user().map(|(name, value)| UserHeader { name, value }).collect(),
            payload: text,
            payload_base64: text.is_none().then(|| BASE64.encode(payload)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previews_are_short_single_lines() {
        assert_eq!(preview(b"plain", 10), "plain");
        assert_eq!(preview(b"two\nlines\x1b[31m", 40), "two\\nlines\\u{1b}[31m");
        assert_eq!(preview(b"0123456789", 10), "0123456789");
        assert_eq!(preview(b"0123456789a", 10), "0123456789…");
        assert_eq!(preview("żółćż".as_bytes(), 4), "żółć…");
        assert_eq!(preview(&[0xff; 100], 2), "\u{fffd}\u{fffd}…");
    }

    #[test]
    fn tables_align_numbers_to_the_right() {
        let rows = vec![vec!["a".into(), "7".into()], vec!["longer".into(), "1,000".into()]];
        assert_eq!(table(&["name", "n"], rows, 1), "name        n\na           7\nlonger  1,000\n");
    }
}
