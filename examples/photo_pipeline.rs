//! A photo pipeline: one upload, three job groups. Each group gets every photo, and within a group each
//! photo goes to one worker: fan-out between the groups, work sharing inside them.
//!
//! Run it: `cargo run --release --example photo_pipeline`

use std::error::Error;
use std::thread;
use std::time::Duration;

use ringway::{GroupOptions, Message, Queue, Removal, Store};

const PHOTOS: usize = 60;
/// Longer than a slot: such a payload lies in an extent of its own, and nothing changes for its users.
const PHOTO_BYTES: usize = 200_000;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let home = tempfile::tempdir()?;
    let store = Store::create(home.path().join("store"))?;
    let uploads = Queue::options().capacity(1_024).create(&store, "uploads")?;

    // A queue comes with the group `default`. These take its place, and get what is published from now on.
    for job in ["thumbnail", "filter", "faces"] {
        uploads.add_group(job, GroupOptions::default())?;
    }
    uploads.remove_group("default", Removal::IfUnused)?;

    thread::scope(|scope| {
        let uploads = &uploads;
        // Two workers share the thumbnails; the other jobs have one worker each.
        let workers: Vec<_> = ["thumbnail", "thumbnail", "filter", "faces"]
            .into_iter()
            .map(|job| (job, scope.spawn(move || work(uploads, job))))
            .collect();
        upload(uploads)?;
        for (job, worker) in workers {
            println!("{job}: {} photos by one worker", worker.join().expect("a thread panicked")?);
        }
        Ok::<_, Box<dyn Error + Send + Sync>>(())
    })?;
    for group in uploads.groups()? {
        println!("{}: {} left", group.name, group.depth);
    }
    Ok(())
}

/// One publish for each photo, whatever the number of groups.
fn upload(uploads: &Queue) -> Result<(), Box<dyn Error + Send + Sync>> {
    let producer = uploads.producer().build()?;
    for number in 0..PHOTOS {
        let pixels: Vec<u8> = (0..PHOTO_BYTES).map(|i| (i * 31 + number) as u8).collect();
        let photo = Message::new(pixels).with_type("photo").with_header("name", &format!("{number}.raw"));
        producer.publish(photo)?;
    }
    Ok(())
}

/// Does one job with the photos that its group hands to this worker, until none has come for a while.
fn work(uploads: &Queue, job: &str) -> Result<usize, Box<dyn Error + Send + Sync>> {
    let consumer = uploads.consumer(job).build()?;
    let mut done = 0;
    while let Some(photo) = consumer.receive_timeout(Duration::from_millis(300))? {
        let pixels = photo.payload();
        let result = match job {
            "thumbnail" => pixels.iter().step_by(64).map(|&p| usize::from(p)).sum::<usize>(),
            "filter" => pixels.iter().filter(|&&p| p > 127).count(),
            _ => pixels.windows(2).filter(|pair| pair[0] > pair[1]).count(),
        };
        assert!(result > 0, "{:?} is black", photo.headers().get("name"));
        photo.ack().map_err(|error| error.failure)?;
        done += 1;
    }
    Ok(done)
}
