//! `ringway import`: JSON lines become messages, in their order.
//!
//! Every line is published as soon as it was read. Whatever ends the import (a line that is wrong, a queue that is
//! full, a signal), all lines before a certain one are in and none after: [`Importer::tell`] tells that line,
//! and `--from-line` takes it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use ringway::{Message, Producer, PublishError, PublishFailure, Queue, Removal, Store, StoreError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;

use super::publish::{self, Published};
use super::{Context, create};
use crate::args::transfer::{ImportArgs, OnFullArg};
use crate::exit::{self, Code, Failure, note};
use crate::lines::{self, Bad, Header, Line};
use crate::output;
use crate::signals::Stop;
use crate::units::group_digits;

/// How often a wait is interrupted to see whether to stop.
const SLICE: Duration = Duration::from_millis(100);

/// The longest line that can be a header.
const HEADER_MAX: u64 = 1 << 20;

/// Bad lines that are told one by one when they are skipped.
const TOLD: u64 = 10;

#[derive(Debug, Serialize)]
struct Imported<'a> {
    #[serde(flatten)]
    published: &'a Published,
    skipped: u64,
    /// Where to go on; null at the end.
    next_line: Option<u64>,
}

pub(super) fn run(context: &Context, args: &ImportArgs) -> Result<(), Failure> {
    if args.on_full == OnFullArg::Fail && args.timeout.is_some() {
        return Err(Failure::new(
            Code::Usage,
            "--timeout is how long to wait, and --on-full fail does not wait",
        ));
    }
    let stop = Stop::listen()?;
    let mut lines = Lines::open(args.file.as_deref(), &stop)?;
    let queue = if args.create {
        match lines.header() {
            Ok(header) => make(context, &args.queue, &header)?,
            Err(End::Stopped) => return stopped(&stop, "nothing was published, and no queue made"),
            Err(End::Failed(failure)) => return Err(failure),
        }
    } else {
        context.queue(&args.queue)?
    };
    let mut importer = Importer::new(args, &queue, stop)?;
    let outcome = importer.import(&mut lines);
    importer.progress.finish_and_clear();
    let imported = Imported {
        published: &importer.published,
        skipped: importer.skipped,
        next_line: outcome.is_err().then_some(importer.next_line),
    };
    let done = format!("{}{}", publish::tell(&importer.published), importer.tell_skipped("; "));
    let printed = match (context.json, &outcome) {
        (true, _) => output::json(&imported),
        (false, Ok(())) => output::line(&done),
        (false, Err(_)) => Ok(()),
    };
    // If it failed, that it could not be printed is the lesser failure.
    outcome.and(printed.map_err(|failure| failure.and(done)))
}

/// How the command ends when it was asked to stop: not with success, since it did not come to its end.
fn stopped(stop: &Stop, so_far: &str) -> Result<(), Failure> {
    let message = format!("stopped by a signal; {so_far}");
    match stop.outcome() {
        Err(interrupted) => {
            note(&message);
            Err(interrupted)
        }
        Ok(()) => Err(Failure::new(Code::Failed, message)),
    }
}

/// Makes a queue like the one that was exported. What was made is removed again if it cannot be.
fn make(context: &Context, name: &str, header: &Header) -> Result<Queue, Failure> {
    let path = context.store_path();
    let (store, store_created) = create::open_or_create(&path)?;
    let failure = match make_queue(&store, name, header) {
        Ok(queue) => return Ok(queue),
        Err(failure) => failure,
    };
    drop(store);
    if store_created {
        // If somebody has come to use it by now, it stays.
        let _ = Store::remove(&path);
    }
    Err(failure.into())
}

fn make_queue(store: &Store, name: &str, header: &Header) -> Result<Queue, StoreError> {
    let mut options = Queue::options()
        .capacity(header.capacity)
        .slot_size(header.slot_size)
        .max_message(header.max_message)
        .max_groups(header.max_groups);
    let first = header.groups.iter().find(|group| group.name == "default");
    if let Some(group) = first {
        options = options.default_group(group.options());
    }
    let queue = options.create(store, name)?;
    let make_groups = || {
        if first.is_none() {
            queue.remove_group("default", Removal::IfUnused)?;
        }
        let mut others = header.groups.iter().filter(|group| group.name != "default");
        others.try_for_each(|group| queue.add_group(&group.name, group.options()))
    };
    let made: Result<(), StoreError> = make_groups();
    if let Err(error) = made {
        drop(queue);
        let _ = store.remove_queue(name, Removal::IfUnused);
        return Err(error);
    }
    Ok(queue)
}

/// Why an import ends before the end of its lines.
enum End {
    /// It was asked to stop.
    Stopped,
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Failed(failure)
    }
}

struct Importer<'a> {
    args: &'a ImportArgs,
    producer: Producer,
    stop: Arc<Stop>,
    /// The longest line that can hold a message of this queue.
    longest: u64,
    published: Published,
    skipped: u64,
    /// The first line of which nothing was done yet.
    next_line: u64,
    progress: ProgressBar,
}

impl<'a> Importer<'a> {
    fn new(args: &'a ImportArgs, queue: &Queue, stop: Arc<Stop>) -> Result<Importer<'a>, Failure> {
        let typed = args.file.is_none() && io::stdin().is_terminal();
        Ok(Importer {
            args,
            producer: queue.producer().build()?,
            stop,
            // A byte is at most six as JSON (`\u0000`). Of the same length at most are the headers, 64 KiB, and
            // what is told of where the message stood.
            longest: 6 * queue.max_message() as u64 + (1 << 20),
            published: Published::default(),
            skipped: 0,
            next_line: args.from_line,
            progress: if typed { ProgressBar::hidden() } else { output::progress("published") },
        })
    }

    fn import(&mut self, lines: &mut Lines) -> Result<(), Failure> {
        let outcome = match lines.skip_to(self.args.from_line) {
            Ok(true) => self.publish_all(lines),
            Ok(false) => {
                let (line, lines) = (self.args.from_line, group_digits(lines.number));
                let message = format!("--from-line {line}: the input has only {lines} lines");
                return Err(Failure::new(Code::Failed, message));
            }
            Err(end) => Err(end),
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(End::Stopped) => stopped(&self.stop, &self.tell()),
            Err(End::Failed(failure)) => Err(failure.and(self.tell())),
        }
    }

    /// What was done, and where to go on.
    fn tell(&self) -> String {
        let (published, line) = (group_digits(self.published.published), self.next_line);
        let skipped = self.tell_skipped(", ");
        let without = if self.args.create { " and without --create" } else { "" };
        format!("{published} published before it{skipped}: go on with --from-line {line}{without}")
    }

    fn tell_skipped(&self, before: &str) -> String {
        match self.skipped {
            0 => String::new(),
            1 => format!("{before}1 bad line skipped"),
            count => format!("{before}{} bad lines skipped", group_digits(count)),
        }
    }

    fn publish_all(&mut self, lines: &mut Lines) -> Result<(), End> {
        loop {
            self.next_line = lines.number + 1;
            if self.stop.asked() {
                return Err(End::Stopped);
            }
            match lines.read(self.longest)? {
                Taken::Line => self.take(&lines.line)?,
                Taken::TooLong => {
                    let what = format!(
                        "found more than {} bytes, longer than any message of this queue can be",
                        group_digits(self.longest)
                    );
                    self.refuse(Bad::new(1, what).failure(self.next_line))?;
                }
                Taken::End => return Ok(()),
            }
        }
    }

    /// Does what a line says.
    fn take(&mut self, line: &[u8]) -> Result<(), End> {
        let message = match lines::read(line) {
            Ok(Line::Header) => return Ok(()),
            Ok(Line::Message(message)) => message,
            Err(bad) if bad.version => return Err(bad.failure(self.next_line).into()),
            Err(bad) => return self.refuse(bad.failure(self.next_line)),
        };
        let line = format!("line {}", self.next_line);
        match self.publish(&message)? {
            Ok(position) => {
                self.published.add(position);
                self.progress.inc(1);
                Ok(())
            }
            Err(
                failure @ (PublishFailure::TooLarge { .. }
                | PublishFailure::HeadersTooLarge { .. }
                | PublishFailure::BadHeaderName { .. }),
            ) => {
                let failure = Failure::new(Code::Failed, failure.to_string());
                self.refuse(failure.about(line))
            }
            Err(failure) => Err(Failure::from(failure).about(line).into()),
        }
    }

    /// A line is wrong: that ends it, or is told and counted.
    fn refuse(&mut self, failure: Failure) -> Result<(), End> {
        if !self.args.skip_bad {
            return Err(failure.and("correct the line, or leave it out with --skip-bad").into());
        }
        self.skipped += 1;
        if self.skipped <= TOLD {
            let rest =
                if self.skipped == TOLD { "skipped, and further ones are not told" } else { "skipped" };
            self.progress.suspend(|| exit::tell(&failure.and(rest)));
        }
        Ok(())
    }

    /// Publishes, and waits for room if that was asked for.
    fn publish(&self, message: &Message) -> Result<Result<u64, PublishFailure>, End> {
        let start = Instant::now();
        loop {
            let left = match (self.args.on_full, self.args.timeout) {
                (OnFullArg::Fail, _) => Duration::ZERO,
                (OnFullArg::Block, None) => Duration::MAX,
                (OnFullArg::Block, Some(timeout)) => timeout.saturating_sub(start.elapsed()),
            };
            match self.producer.publish_timeout(message, left.min(SLICE)) {
                Ok(receipt) => return Ok(Ok(receipt.position)),
                Err(PublishError { failure: PublishFailure::Full { .. }, .. }) if left >= SLICE => {
                    if self.stop.asked() {
                        return Err(End::Stopped);
                    }
                }
                Err(PublishError { failure, .. }) => return Ok(Err(failure)),
            }
        }
    }
}

/// What was read.
enum Taken {
    /// A line, without its newline.
    Line,
    /// A line that is too long, which was skipped.
    TooLong,
    End,
}

/// The lines of a file or of stdin.
struct Lines {
    input: BufReader<Input>,
    stop: Arc<Stop>,
    /// What is read, for people.
    name: String,
    line: Vec<u8>,
    /// The number of the last line that was read.
    number: u64,
}

impl Lines {
    fn open(path: Option<&Path>, stop: &Arc<Stop>) -> Result<Lines, Failure> {
        let (file, name) = match path {
            Some(path) => (File::open(path), path.display().to_string()),
            None => (io::stdin().as_fd().try_clone_to_owned().map(File::from), "stdin".to_string()),
        };
        let file = file.map_err(|error| Failure::io(&format!("opening {name}"), &error))?;
        let input = Input { file, stop: Arc::clone(stop) };
        let input = BufReader::with_capacity(256 << 10, input);
        Ok(Lines { input, stop: Arc::clone(stop), name, line: Vec::new(), number: 0 })
    }

    /// Reads the next line.
    fn read(&mut self, longest: u64) -> Result<Taken, End> {
        self.line.clear();
        let read = self.input.by_ref().take(longest + 1).read_until(b'\n', &mut self.line);
        if read.map_err(|error| self.end(&error))? == 0 {
            return Ok(Taken::End);
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else if self.line.len() as u64 > longest {
            self.input.skip_until(b'\n').map_err(|error| self.end(&error))?;
            self.number += 1;
            return Ok(Taken::TooLong);
        }
        self.number += 1;
        Ok(Taken::Line)
    }

    /// Leaves out the lines before this one; `false` if there are not so many.
    fn skip_to(&mut self, line: u64) -> Result<bool, End> {
        while self.number + 1 < line {
            if self.input.skip_until(b'\n').map_err(|error| self.end(&error))? == 0 {
                return Ok(false);
            }
            self.number += 1;
        }
        Ok(true)
    }

    /// The first line, which must be a header.
    fn header(&mut self) -> Result<Header, End> {
        let header = match self.read(HEADER_MAX)? {
            Taken::Line => lines::read_header(&self.line),
            Taken::TooLong => Err(Bad::new(1, "found a line too long to be the header of an export")),
            Taken::End => Err(Bad::new(1, "found nothing, expected the header of an export")),
        };
        header.map_err(|bad| bad.failure(1).into())
    }

    fn end(&self, error: &io::Error) -> End {
        if self.stop.asked() {
            return End::Stopped;
        }
        Failure::io(&format!("reading {}", self.name), error).into()
    }
}

/// A file whose reads end, with an error, when the process is asked to stop.
struct Input {
    file: File,
    stop: Arc<Stop>,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let slice = Timespec { tv_sec: 0, tv_nsec: SLICE.subsec_nanos().into() };
        loop {
            if self.stop.asked() {
                return Err(io::Error::other("asked to stop"));
            }
            let ready = poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&slice));
            match ready {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            match self.file.read(buffer) {
                // Somebody else reads from it, too.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                read => return read,
            }
        }
    }
}
