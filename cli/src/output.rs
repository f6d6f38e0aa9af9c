//! Writing to stdout: text, tables, JSON, messages.
//!
//! [`NewFile`] is a file that is written whole or not at all. Everything is written by `write` calls whose errors are looked at: a reader that went away ends the
//! command quietly, and a message counts as printed only when all of its bytes were taken.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ringway::HeadersRef;
use serde::Serialize;
use serde_json::value::RawValue;
use tempfile::NamedTempFile;

use crate::exit::{Code, Failure};

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

/// A file that takes its name when it is whole and on disk. Dropped before, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct NewFile {
    temporary: NamedTempFile,
    dir: PathBuf,
    path: PathBuf,
}

impl NewFile {
    /// Begins one in the place of `path`, readable by its owner alone.
    pub(crate) fn create(path: &Path) -> Result<NewFile, Failure> {
        // A link stays, and what it leads to is replaced.
        let path = if path.is_symlink() {
            path.canonicalize().map_err(|error| io_failure("following the link", path, &error))?
        } else {
            path.to_path_buf()
        };
        if path.exists() && !path.is_file() {
            let message = format!("{} is not a file: redirect stdout there instead", path.display());
            return Err(Failure::new(Code::Usage, message));
        }
        let dir = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let temporary = tempfile::Builder::new().prefix(".ringway-").tempfile_in(&dir);
        let temporary = temporary.map_err(|error| io_failure("writing to", &dir, &error))?;
        Ok(NewFile { temporary, dir, path })
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.temporary
            .as_file_mut()
            .write_all(bytes)
            .map_err(|error| io_failure("writing", &self.path, &error))
    }

    /// Has it on disk, then under its name.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let NewFile { temporary, dir, path } = self;
        temporary.as_file().sync_all().map_err(|error| io_failure("syncing", &path, &error))?;
        temporary.persist(&path).map_err(|error| io_failure("renaming to", &path, &error.error))?;
        let synced = File::open(&dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| io_failure("syncing the directory", &dir, &error))
    }
}

fn io_failure(doing: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::io(&format!("{doing} {}", path.display()), error)
}

/// How many there were so far, on stderr if that is a terminal.
pub(crate) fn progress(done: &str) -> ProgressBar {
    let progress = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template(&format!("{{spinner}} {{human_pos}} {done}, {{per_sec}}"));
    progress.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
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
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_json: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
struct UserHeader<'a> {
    name: &'a str,
    value: &'a str,
}

impl<'a> Content<'a> {
    /// With the payload as text if it is any, else in base64.
    pub(crate) fn new(headers: HeadersRef<'a>, payload: &'a [u8]) -> Content<'a> {
        let text = std::str::from_utf8(payload).ok();
        let payload_base64 = text.is_none().then(|| BASE64.encode(payload));
        Content { payload: text, payload_base64, ..Content::headers(headers) }
    }

    /// With the payload as JSON if it is any, else as in [`Content::new`].
    pub(crate) fn with_json(headers: HeadersRef<'a>, payload: &'a [u8]) -> Content<'a> {
        match std::str::from_utf8(payload).ok().and_then(json_on_a_line) {
            Some(json) => Content { payload_json: Some(json), ..Content::headers(headers) },
            None => Content::new(headers, payload),
        }
    }

    /// Without a payload.
    pub(crate) fn headers(headers: HeadersRef<'a>) -> Content<'a> {
        Content {
            message_type: headers.message_type(),
            correlation_id: headers.correlation_id(),
            content_type: headers.content_type(),
            traceparent: headers.traceparent(),
            tracestate: headers.tracestate(),
            headers: headers.user().map(|(name, value)| UserHeader { name, value }).collect(),
            payload: None,
            payload_base64: None,
            payload_json: None,
        }
    }
}

/// A text as it is, if it is JSON; but on one line.
fn json_on_a_line(text: &str) -> Option<Box<RawValue>> {
    if !text.contains(['\n', '\r']) {
        return serde_json::from_str(text).ok();
    }
    // In a string they would be no JSON, and anywhere else they are white space.
    serde_json::from_str::<&RawValue>(text).ok()?;
    serde_json::from_str(&text.replace(['\n', '\r'], " ")).ok()
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
    fn json_stays_as_it_is_but_on_one_line() {
        let shown = |text| json_on_a_line(text).map(|json| json.get().to_string());
        assert_eq!(shown(" [1.50, 1e999]\n").as_deref(), Some("[1.50, 1e999]"));
        assert_eq!(
            shown("{\r\n \"a\\n\": 1,\n\"a\\n\": 2}").as_deref(),
            Some("{   \"a\\n\": 1, \"a\\n\": 2}")
        );
        assert_eq!(shown("\"a\nb\""), None);
        assert_eq!(shown("{} {}"), None);
        assert_eq!(shown(""), None);
    }

    #[test]
    fn tables_align_numbers_to_the_right() {
        let rows = vec![vec!["a".into(), "7".into()], vec!["longer".into(), "1,000".into()]];
        assert_eq!(table(&["name", "n"], rows, 1), "name        n\na           7\nlonger  1,000\n");
    }
}
