//! What can be asked of `ringway export` and `ringway import`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ringway::MessageState;

use crate::units;

#[derive(Debug, Args)]
#[command(after_help = "\
The first line describes the queue; then comes one JSON object a line for each message that some group has not \
settled, dead letters and leased messages too, in order of position. Nothing is taken from the queue.

On a queue that is in use: every message that was published before the export began is in it, unless it was \
settled before it was read; no message is in it twice or torn; none that came later is. Each message is shown as \
it was when it was read, and not all are read at the same moment.")]
pub(crate) struct ExportArgs {
    /// The queue.
    pub(crate) queue: String,
    /// Write to this file, which is whole and on disk when the command succeeds, and else as it was
    /// [default: stdout].
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Only what this group has not settled; may be given more than once [default: all groups].
    #[arg(long = "group", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// Only messages in this state, in one of the groups; may be given more than once.
    #[arg(long = "state", value_name = "STATE", value_enum)]
    pub(crate) states: Vec<StateArg>,
    /// Show payloads that are JSON as JSON, in `payload_json`. White space around them is not kept, nor are
    /// newlines in them.
    #[arg(long)]
    pub(crate) json_payloads: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateArg {
    /// Never handed out.
    Ready,
    /// In the hands of a consumer.
    Leased,
    /// Waits for its next attempt.
    Retrying,
    /// A dead letter.
    Dead,
}

impl From<StateArg> for MessageState {
    fn from(state: StateArg) -> MessageState {
        match state {
            StateArg::Ready => MessageState::Ready,
            StateArg::Leased => MessageState::Leased,
            StateArg::Retrying => MessageState::Retrying,
            StateArg::Dead => MessageState::Dead,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Reads what `export` writes, and lines of your own: a JSON object with `payload` (text), `payload_base64` or \
`payload_json`, and if you like `type`, `correlation_id`, `content_type`, `traceparent`, `tracestate` and \
`headers`. Messages are published in the order of the lines, as new ones: to every group, as never delivered.

The first line that is wrong ends it. Whatever ends it, the error says how much was published and from which \
line to go on.")]
pub(crate) struct ImportArgs {
    /// The queue.
    pub(crate) queue: String,
    /// The lines [default: stdin].
    pub(crate) file: Option<PathBuf>,
    /// Make the queue, with the geometry and the groups that the first line tells; and the store if it is not
    /// there.
    #[arg(long, conflicts_with = "from_line")]
    pub(crate) create: bool,
    /// What to do when the queue is full.
    #[arg(long, value_enum, default_value_t = OnFullArg::Block)]
    pub(crate) on_full: OnFullArg,
    /// Wait for space at most this long each time; without it, as long as it takes.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) timeout: Option<Duration>,
    /// Leave out lines that are wrong, and count them.
    #[arg(long)]
    pub(crate) skip_bad: bool,
    /// Begin with this line: go on where an import ended.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from_line: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnFullArg {
    /// Wait until there is space.
    Block,
    /// End with an error.
    Fail,
}
