//! What killed victims leave besides messages, and one who is left for dead on purpose.

use std::path::Path;
use std::time::Duration;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use ringway::{GroupOptions, Lease, Queue, Removal, Store, StoreError};

use super::board::{Board, Told};
use super::operations::{Expect, MADE, other_store};
use super::scene::Scene;

/// What a killed maker or remover left can be used, or made anew, and removed; no temporary stays.
pub(crate) fn can_be_used(expect: Expect, scene: &Scene) -> Result<(), String> {
    let store = &scene.store;
    match expect {
        Expect::Queue => {
            try_queue(store).map_err(|error| format!("the queue that was left: {error}"))?;
            store.remove_queue(MADE, Removal::IfUnused).map_err(|error| format!("removing it: {error}"))?;
        }
        Expect::Group => {
            let queue = &scene.queue;
            match queue.add_group(MADE, GroupOptions::default()) {
                Ok(()) | Err(StoreError::AlreadyExists { .. }) => {}
                Err(error) => return Err(format!("adding the group: {error}")),
            }
            let consumer = queue.consumer(MADE).build();
            drop(consumer.map_err(|error| format!("consuming from the group that was left: {error}"))?);
            let removed = queue.remove_group(MADE, Removal::IfUnused);
            removed.map_err(|error| format!("removing the group: {error}"))?;
        }
        Expect::Store => {
            let path = other_store(&scene.path);
            let store = Store::open_or_create(&path).map_err(|error| format!("the store left: {error}"))?;
            try_queue(&store).map_err(|error| format!("a queue in the store left: {error}"))?;
            store.repair().map_err(|error| format!("repairing the store left: {error}"))?;
            no_temporaries(&path)?;
            drop(store);
            Store::remove(&path).map_err(|error| format!("removing the store left: {error}"))?;
            if path.exists() {
                return Err("a removed store's directory is still there".to_owned());
            }
        }
        _ => {}
    }
    scene.store.repair().map_err(|error| format!("repair: {error}"))?;
    no_temporaries(&scene.path)
}

/// A queue can be opened or made, and used.
fn try_queue(store: &Store) -> Result<(), Box<dyn std::error::Error>> {
    let queue = Queue::options().capacity(1024).max_groups(2).open_or_create(store, MADE)?;
    queue.producer().build()?.publish("x")?;
    let consumer = queue.consumer("default").build()?;
    let delivery = consumer.receive_timeout(Duration::from_secs(5))?.ok_or("nothing is received")?;
    Ok(delivery.ack().map_err(|error| error.failure)?)
}

fn no_temporaries(store: &Path) -> Result<(), String> {
    for dir in [store.to_path_buf(), store.join("queues")] {
        for entry in std::fs::read_dir(&dir).map_err(|error| format!("list {}: {error}", dir.display()))? {
            let name = entry.map_err(|error| error.to_string())?.file_name();
            if name.to_string_lossy().starts_with(".new-") {
                return Err(format!("{name:?} is still there after a repair"));
            }
        }
    }
    Ok(())
}

/// A process that dies with a lease on the message given, a position half published, and a temporary file.
pub(crate) fn leave_a_corpse(path: &Path, board: Board) -> Result<(), String> {
    // SAFETY: this process has one thread.
    match unsafe { fork() }.map_err(|error| format!("fork: {error}"))? {
        ForkResult::Child => {
            // SAFETY: all processes of this test keep to the protocol.
            let store =
                unsafe { Store::options().trust_peers() }.open(path).expect("the corpse opens the store");
            let queue = store.queue(super::operations::QUEUE).expect("the corpse opens the queue");
            let consumer = queue.consumer("default").lease(Lease::UntilDeath).build().expect("a consumer");
            let delivery = consumer.receive_timeout(Duration::from_secs(5)).expect("receive");
            let producer = queue.producer().build().expect("a producer");
            let loan = producer.loan(10).expect("a loan");
            std::fs::write(path.join("queues/.new-1-corpse"), [0; 10]).expect("write");
            board.tell(if delivery.is_some() { Told::Done } else { Told::Empty });
            std::mem::forget((delivery, loan));
            // SAFETY: ends the process without destructors.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            waitpid(child, None).map_err(|error| format!("waitpid: {error}"))?;
            if board.told() == Told::Done { Ok(()) } else { Err("the corpse got no message".to_owned()) }
        }
    }
}
