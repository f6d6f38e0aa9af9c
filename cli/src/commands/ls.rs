//! `ringway ls`: the names of the queues, one a line.

use super::Context;
use crate::exit::Failure;
use crate::output;

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let queues = context.store()?.queues()?;
    if context.json {
        return output::json(&queues);
    }
    output::text(&queues.iter().map(|name| format!("{name}\n")).collect::<String>())
}
