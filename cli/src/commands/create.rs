//! `ringway create`: a queue, and its store if there is none yet.

use std::path::Path;

use ringway::{Backoff, GroupOptions, Order, Queue, QueueInfo, QueueOptions, Store, StoreError};
use serde::Serialize;

use super::Context;
use crate::args::{CreateArgs, DurableArgs, GroupSettings, OrderArg};
use crate::exit::{Code, Failure};
use crate::output;
use crate::units::{group_digits, show_level, show_size};

#[derive(Debug, Serialize)]
struct Created<'a> {
    store: &'a Path,
    store_created: bool,
    queue_created: bool,
    #[serde(flatten)]
    info: &'a QueueInfo,
}

pub(super) fn run(context: &Context, args: &CreateArgs) -> Result<(), Failure> {
    let path = args.durable.durable.clone().unwrap_or_else(|| context.store_path());
    let (store, store_created) = match &args.durable.durable {
        Some(dir) => open_or_create_durable(dir, context.chosen.as_deref(), &args.durable)?,
        None => open_or_create(&path)?,
    };
    let (queue, queue_created) = match create(&store, args) {
        Ok(made) => made,
        Err(error) => {
            drop(store);
            if store_created {
                // Made for this queue alone. If somebody has come to use it by now, it stays.
                let _ = Store::remove(&path);
            }
            return Err(error.into());
        }
    };
    let info = queue.info()?;
    if context.json {
        return output::json(&Created { store: store.path(), store_created, queue_created, info: &info });
    }
    let mut text = String::new();
    if store_created {
        text.push_str(&format!("created the store {}\n", store.path().display()));
    }
    let done = if queue_created { "created the queue" } else { "there is already the queue" };
    text.push_str(&format!("{done} {}: {}\n", info.name, geometry(&info)));
    output::text(&text)
}

/// The store, and whether this call made it.
pub(super) fn open_or_create(path: &Path) -> Result<(Store, bool), StoreError> {
    match Store::open(path) {
        Err(StoreError::NoSuchStore { .. }) => {}
        other => return other.map(|store| (store, false)),
    }
    match Store::create(path) {
        // Somebody else was faster.
        Err(StoreError::AlreadyExists { .. }) => Store::open(path).map(|store| (store, false)),
        other => other.map(|store| (store, true)),
    }
}

/// The durable store of this directory, and whether this call made it.
fn open_or_create_durable(
    dir: &Path,
    rings: Option<&Path>,
    args: &DurableArgs,
) -> Result<(Store, bool), Failure> {
    match Store::open(dir) {
        Err(StoreError::NoSuchStore { .. }) => {}
        Ok(store) => {
            if let Some(rings) = rings.filter(|rings| !is_same_dir(rings, store.path())) {
                let (dir, found, asked) = (dir.display(), store.path().display(), rings.display());
                let text = format!("the store {dir} is there, with its rings in {found}, not in {asked}");
                return Err(Failure::new(Code::Usage, text));
            }
            let options = store.journal()?.map(|journal| journal.options);
            return match options {
                None => Err(Failure::new(
                    Code::Usage,
                    format!("the store {} is there, and is volatile", dir.display()),
                )),
                Some(options) if args.level.is_some_and(|level| level != options.level) => {
                    let found = show_level(options.level);
                    let text = format!("the store {} is there, with the level {found}", dir.display());
                    Err(Failure::new(Code::Usage, text))
                }
                Some(_) => Ok((store, false)),
            };
        }
        Err(error) => return Err(error.into()),
    }
    let options = Store::options().durable(dir).durable_options(|options| {
        options.level = args.level.unwrap_or_default();
        options.deliver_early = args.deliver_early;
        options.segment_len = args.segment_size.map_or(options.segment_len, u64::from);
    });
    match options.create(rings.unwrap_or(dir)) {
        // Somebody else was faster.
        Err(StoreError::AlreadyExists { .. }) => Ok((Store::open(dir)?, false)),
        other => Ok((other?, true)),
    }
}

fn is_same_dir(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// The queue, and whether this call made it.
fn create(store: &Store, args: &CreateArgs) -> Result<(Queue, bool), StoreError> {
    let options = queue_options(args);
    match options.create(store, &args.queue) {
        Err(StoreError::AlreadyExists { .. }) if args.if_missing => {
            options.open_or_create(store, &args.queue).map(|queue| (queue, false))
        }
        other => other.map(|queue| (queue, true)),
    }
}

fn queue_options(args: &CreateArgs) -> QueueOptions {
    let mut options = Queue::options().default_group(group_options(&args.group));
    if let Some(capacity) = args.capacity {
        options = options.capacity(capacity);
    }
    if let Some(slot_size) = args.slot_size {
        options = options.slot_size(slot_size);
    }
    if let Some(max_message) = args.max_message {
        options = options.max_message(max_message);
    }
    if let Some(max_groups) = args.max_groups {
        options = options.max_groups(max_groups);
    }
    options
}

/// The library's defaults, with what was given instead.
pub(super) fn group_options(settings: &GroupSettings) -> GroupOptions {
    let mut options = GroupOptions::default();
    if let Some(order) = settings.order {
        options.order = match order {
            OrderArg::Relaxed => Order::Relaxed,
            OrderArg::Ordered => Order::Ordered,
        };
    }
    if let Some(max_deliveries) = settings.max_deliveries {
        options.max_deliveries = max_deliveries;
    }
    options.backoff = Backoff {
        base: settings.backoff.unwrap_or(options.backoff.base),
        cap: settings.backoff_cap.unwrap_or(options.backoff.cap),
        ..options.backoff
    };
    options
}

/// A queue's geometry in a few words.
pub(super) fn geometry(info: &QueueInfo) -> String {
    format!(
        "{} slots of {}, messages up to {}",
        group_digits(info.capacity),
        show_size(info.slot_size.into()),
        show_size(info.max_message.into())
    )
}
