//! Food-delivery orders: one service places them, three restaurant workers cook and acknowledge them.
//!
//! Here all of them are threads, so that the example is one file; in earnest each is a process of its own
//! that opens the same store, and nothing else changes.
//!
//! Run it: `cargo run --release --example order_flow`

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use ringway::{Message, Queue, Store};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Order {
    id: u32,
    restaurant: String,
    total_cents: u32,
}

const ORDERS: u32 = 300;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let home = tempfile::tempdir()?;
    let path = home.path().join("store");
    let store = Store::create(&path)?;
    let queue = Queue::options().create(&store, "orders")?;

    let cooked = AtomicU32::new(0);
    thread::scope(|scope| {
        let (path, cooked) = (path.as_path(), &cooked);
        let mut parts = vec![scope.spawn(move || order_service(path))];
        for _ in 0..3 {
            parts.push(scope.spawn(move || restaurant_worker(path, cooked)));
        }
        parts.into_iter().try_for_each(|part| part.join().expect("a thread panicked"))
    })?;

    println!("{} of {ORDERS} orders cooked, {} left", cooked.into_inner(), queue.groups()?[0].depth);
    Ok(())
}

/// Publishes each order as JSON.
fn order_service(path: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let producer = Store::open(path)?.queue("orders")?.producer().build()?;
    for id in 1..=ORDERS {
        let order = Order { id, restaurant: format!("restaurant {}", id % 7), total_cents: 1_000 + id };
        producer.publish(Message::json(&order)?.with_type("order.placed"))?;
    }
    Ok(())
}

/// Works until all orders are done. If this process died now, another worker would get what it holds.
fn restaurant_worker(path: &Path, cooked: &AtomicU32) -> Result<(), Box<dyn Error + Send + Sync>> {
    let consumer = Store::open(path)?.queue("orders")?.consumer("default").build()?;
    while cooked.load(Ordering::Relaxed) < ORDERS {
        let Some(delivery) = consumer.receive_timeout(Duration::from_millis(20))? else { continue };
        let order: Order = delivery.json()?;
        // Every 50th order burns, once: a nack has it delivered again, after the group's backoff.
        if order.id.is_multiple_of(50) && !delivery.redelivered() {
            println!("order {} of {} burnt: once more", order.id, order.restaurant);
            delivery.nack().map_err(|error| error.failure)?;
            continue;
        }
        // An ack is refused if the lease was lost: then somebody else has the order, and this one counts for
        // nothing.
        delivery.ack().map_err(|error| error.failure)?;
        cooked.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
