//! The subcommands, one module each.

mod bench;
mod consume;
mod create;
mod dead;
mod demo;
mod exec;
mod export;
mod group;
mod import;
mod info;
mod journal;
mod ls;
mod peek;
mod publish;
mod repair;
mod rm;
mod stats;
mod verify;

use std::path::PathBuf;

use ringway::{Queue, Store, StoreError};

use crate::args::{Cli, Command};
use crate::exit::Failure;

/// What every command is told: where the store is, and how to print.
#[derive(Debug)]
struct Context {
    /// `--store`, if it was given.
    chosen: Option<PathBuf>,
    json: bool,
}

impl Context {
    /// `--store`, else `$RINGWAY_STORE`, else the user's default store.
    fn store_path(&self) -> PathBuf {
        let from_environment = || std::env::var_os("RINGWAY_STORE").filter(|value| !value.is_empty());
        match &self.chosen {
            Some(path) => path.clone(),
            None => from_environment().map_or_else(|| Store::default_path("default"), PathBuf::from),
        }
    }

    fn store(&self) -> Result<Store, Failure> {
        Ok(Store::open(self.store_path())?)
    }

    fn queue(&self, name: &str) -> Result<Queue, Failure> {
        Ok(self.store()?.queue(name)?)
    }

    /// The queue of this name, or all of them.
    fn queues(&self, name: Option<&str>) -> Result<Vec<Queue>, Failure> {
        let store = self.store()?;
        let names = match name {
            Some(name) => vec![name.to_string()],
            None => store.queues()?,
        };
        names.iter().map(|name| Ok(store.queue(name)?)).collect()
    }
}

/// Refuses a store without a journal, before anything is done.
fn check_durable(store: &Store) -> Result<(), Failure> {
    match store.journal()? {
        Some(_) => Ok(()),
        None => Err(StoreError::Volatile { path: store.path().to_path_buf() }.into()),
    }
}

/// Does what was asked.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    let context = Context { chosen: cli.store, json: cli.json };
    match cli.command {
        Command::Demo(args) => demo::run(&context, &args),
        Command::Create(args) => create::run(&context, &args),
        Command::Ls => ls::run(&context),
        Command::Info { queue: Some(queue) } => info::queue(&context, &queue),
        Command::Info { queue: None } => info::store(&context),
        Command::Stats(args) => stats::run(&context, &args),
        Command::Rm(args) => rm::run(&context, &args),
        Command::Publish(args) => publish::run(&context, args),
        Command::Consume(args) => consume::run(&context, &args),
        Command::Peek(args) => peek::run(&context, &args),
        Command::Export(args) => export::run(&context, &args),
        Command::Import(args) => import::run(&context, &args),
        Command::Group(command) => group::run(&context, &command),
        Command::Dead(command) => dead::run(&context, &command),
        Command::Repair(args) if args.journal => journal::repair(&context, &args),
        Command::Repair(_) => repair::run(&context),
        Command::Journal(command) => journal::run(&context, &command),
        Command::Verify { queue } => verify::run(&context, queue.as_deref()),
        Command::Bench(args) => bench::run(&context, &args),
        Command::DemoWorker(args) => demo::worker(&context, &args),
        Command::DemoService(args) => demo::service(&context, &args),
    }
}
