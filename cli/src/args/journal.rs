//! What can be asked of a journal.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// End the journal before the damage, so that the store can be opened; after the disk failed, take its rings
    /// away. Says what is lost, and does it only with --yes.
    #[arg(long)]
    pub(crate) journal: bool,
    /// Only say what would be lost.
    #[arg(long, requires = "journal")]
    pub(crate) dry_run: bool,
    /// Yes, lose it.
    #[arg(long, requires = "journal", conflicts_with = "dry_run")]
    pub(crate) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JournalCommand {
    /// List the segments: their records, batches and bytes, and a torn end.
    Ls(JournalArgs),
    /// Print the records, one a line.
    Dump(DumpArgs),
    /// Read it all and check every checksum.
    Verify(JournalArgs),
}

#[derive(Debug, Args)]
pub(crate) struct JournalArgs {
    /// The durable directory [default: that of --store].
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    pub(crate) of: JournalArgs,
    /// Only records about this queue.
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// Only records of this kind; may be given more than once.
    #[arg(long, value_enum)]
    pub(crate) kind: Vec<KindArg>,
    /// Only records from this number (LSN) on.
    #[arg(long, value_name = "LSN", default_value_t = 0)]
    pub(crate) from: u64,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    pub(crate) limit: u64,
    /// With the messages: as text, or in base64 if they are none.
    #[arg(long)]
    pub(crate) payload: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindArg {
    /// Which queues there are.
    Roster,
    /// A queue's geometry and groups.
    Queue,
    /// A message was published, or moved forward.
    Message,
    /// A group has settled everything before a position.
    Settled,
    /// What a group made of one message.
    State,
}

impl KindArg {
    /// As the library calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            KindArg::Roster => "roster",
            KindArg::Queue => "queue",
            KindArg::Message => "message",
            KindArg::Settled => "settled",
            KindArg::State => "state",
        }
    }
}
