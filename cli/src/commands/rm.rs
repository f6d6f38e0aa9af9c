//! `ringway rm`: a queue, or the whole store.

use ringway::{Removal, Store};
use serde::Serialize;

use super::Context;
use crate::args::RmArgs;
use crate::exit::{Code, Failure};
use crate::output;

#[derive(Debug, Serialize)]
struct Removed<'a> {
    removed: &'a str,
}

pub(super) fn run(context: &Context, args: &RmArgs) -> Result<(), Failure> {
    let what = match &args.queue {
        Some(queue) => {
            context.store()?.remove_queue(queue, removal(args.wait))?;
            queue.clone()
        }
        None => remove_store(context, args.yes)?,
    };
    if context.json {
        output::json(&Removed { removed: &what })
    } else {
        output::line(format!("removed {what}"))
    }
}

fn remove_store(context: &Context, yes: bool) -> Result<String, Failure> {
    let path = context.store_path();
    if !yes {
        let message = format!("this removes the store {} with all its messages: add --yes", path.display());
        return Err(Failure::new(Code::Usage, message));
    }
    Store::remove(&path)?;
    Ok(path.display().to_string())
}

/// Refuse what is in use, or wait for its users.
pub(super) fn removal(wait: Option<std::time::Duration>) -> Removal {
    wait.map_or(Removal::IfUnused, Removal::WaitFor)
}
