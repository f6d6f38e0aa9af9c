//! Death and races while something is made.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ringway::{Queue, Store, StoreError};

use super::agent::{Agent, say, this_binary};
use super::{small_queue, store, take};

/// Creators killed. More by `FAULTS_CREATORS`.
const CREATORS: u32 = 100;

/// Creations at once. More by `FAULTS_RACES`.
const RACES: u32 = 50;

fn size(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn a_creator_may_die_at_any_time() {
    let place = tempfile::tempdir_in("/dev/shm").expect("a directory");
    // The moments are random enough by the machine's own noise; these spread them over what an agent does.
    for round in 0..size("FAULTS_CREATORS", CREATORS) {
        let path = place.path().join("store");
        let mut agent = Agent::play("create", &path, &mut Command::new(this_binary()));
        assert_eq!(agent.hear().as_deref(), Some("creating"));
        std::thread::sleep(Duration::from_micros(u64::from(round) * 97 % 6000));
        agent.kill();
        let store = Store::open_or_create(&path).expect("the next one opens or creates");
        let queue = Queue::options()
            .capacity(1024)
            .max_groups(1)
            .open_or_create(&store, "made")
            .expect("and the queue");
        queue.producer().build().expect("a producer").publish("x").expect("publish");
        take(&queue.consumer("default").build().expect("a consumer")).ack().expect("ack");
        store.repair().expect("repair");
        for dir in [path.clone(), path.join("queues")] {
            for entry in std::fs::read_dir(&dir).expect("list") {
                let name = entry.expect("an entry").file_name();
                assert!(!name.to_string_lossy().starts_with('.'), "{name:?} is left in {}", dir.display());
            }
        }
        drop(queue);
        drop(store);
        Store::remove(&path).expect("remove");
    }
}

/// What the agent runs: makes and removes the same store and queue, again and again.
pub(crate) fn create_for_ever(path: &Path) {
    say("creating");
    loop {
        let store = Store::open_or_create(path).expect("open or create");
        Queue::options().capacity(1024).max_groups(1).open_or_create(&store, "made").expect("the queue");
        store.remove_queue("made", ringway::Removal::IfUnused).expect("remove the queue");
        drop(store);
        Store::remove(path).expect("remove the store");
    }
}

#[test]
fn of_two_creators_one_wins_and_both_can_work() {
    let place = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let mut agents = [(); 2].map(|()| Agent::play("race", place.path(), &mut Command::new(this_binary())));
    for round in 0..size("FAULTS_RACES", RACES) {
        for agent in &mut agents {
            agent.tell(&format!("{round}"));
        }
        let mut created = 0;
        for agent in &mut agents {
            match agent.hear().as_deref() {
                Some("created and worked") => created += 1,
                Some("found and worked") => {}
                other => panic!("round {round}: {other:?}"),
            }
        }
        assert_eq!(created, 1, "round {round}");
        let store = Store::open(place.path().join(round.to_string())).expect("open");
        let queue = store.queue("q").expect("the queue");
        let consumer = queue.consumer("default").build().expect("a consumer");
        for _ in 0..2 {
            take(&consumer).ack().expect("ack");
        }
        assert!(consumer.try_receive().expect("receive").is_none());
        assert_eq!(std::fs::read_dir(store.path()).expect("list").count(), 2, "no temporary is left");
    }
}

/// What the agents run: on each line, creates the store of that name with its queue, or opens it, and
/// publishes.
pub(crate) fn race(place: &Path) {
    for line in std::io::stdin().lines() {
        let path = place.join(line.expect("a line"));
        let (store, created) = match Store::create(&path) {
            Ok(store) => (store, true),
            Err(StoreError::AlreadyExists { .. }) => (Store::open(&path).expect("open"), false),
            Err(error) => panic!("{error}"),
        };
        let queue =
            Queue::options().capacity(1024).max_groups(1).open_or_create(&store, "q").expect("the queue");
        queue.producer().build().expect("a producer").publish("x").expect("publish");
        say(if created { "created and worked" } else { "found and worked" });
    }
}

#[test]
fn what_is_there_is_opened_as_it_is() {
    let (_place, store) = store();
    small_queue(&store, "q").producer().build().expect("a producer").publish("x").expect("publish");
    let again = Queue::options().open_or_create(&store, "q").expect("open");
    assert_eq!(again.capacity(), 1024);
    let again = Store::open_or_create(store.path()).expect("open").queue("q").expect("the queue");
    assert_eq!(take(&again.consumer("default").build().expect("a consumer")).payload(), b"x");
}
