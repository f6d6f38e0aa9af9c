//! Exclusive roles.

use ringway::{Producer, Queue, StoreError};

use super::agent::Agent;
use super::{holder, small_queue, store, take};

fn exclusive(queue: &Queue) -> Result<Producer, StoreError> {
    queue.producer().exclusive().build()
}

fn is_taken<T: std::fmt::Debug>(result: Result<T, StoreError>, role: &str) -> bool {
    matches!(result, Err(StoreError::RoleTaken { role: taken, .. }) if taken == role)
}

#[test]
fn an_exclusive_role_is_refused_to_others_until_it_is_given_up() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let producer = exclusive(&queue).expect("exclusive");
    assert!(is_taken(exclusive(&queue), "producer"));
    assert!(is_taken(queue.producer().build(), "producer"));
    drop(producer);
    let shared = queue.producer().build().expect("shared");
    assert!(is_taken(exclusive(&queue), "producer"), "a shared one is in the way");
    queue.producer().build().expect("another shared one is not refused");
    drop(shared);
    exclusive(&queue).expect("free again");

    let consumer = queue.consumer("default").exclusive().build().expect("exclusive");
    assert!(is_taken(queue.consumer("default").exclusive().build(), "consumer"));
    assert!(is_taken(queue.consumer("default").build(), "consumer"));
    queue.add_group("other", ringway::GroupOptions::default()).expect("a group");
    queue.consumer("other").exclusive().build().expect("another group's role is another one");
    drop(consumer);
    let shared = queue.consumer("default").build().expect("shared");
    assert!(is_taken(queue.consumer("default").exclusive().build(), "consumer"));
    drop(shared);
    queue.consumer("default").exclusive().build().expect("free again");
}

#[test]
fn an_exclusive_role_is_free_when_its_holder_dies() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    for round in 0..5 {
        let mut agent = Agent::start(store.path());
        assert_eq!(agent.ask("open"), "done");
        assert_eq!(agent.ask("producer exclusive"), "done");
        assert_eq!(agent.ask("consumer exclusive death"), "done");
        assert!(is_taken(exclusive(&queue), "producer"));
        assert!(is_taken(queue.producer().build(), "producer"));
        assert!(is_taken(queue.consumer("default").build(), "consumer"));
        assert_eq!(agent.ask(&format!("publish {round}")), "done");
        assert_eq!(agent.ask("take"), format!("{round} 0"));
        agent.kill();
        // Whoever comes next frees it, without a sweep.
        let producer = exclusive(&queue).expect("the dead one's role");
        let consumer = queue.consumer("default").exclusive().build().expect("the dead one's role");
        producer.publish("next").expect("publish");
        for (text, failures) in [(round.to_string(), 1), ("next".to_owned(), 0)] {
            let delivery = take(&consumer);
            assert_eq!((delivery.payload(), delivery.failures()), (text.as_bytes(), failures));
            delivery.ack().expect("ack");
        }
    }
}

#[test]
fn a_paused_holder_keeps_its_role() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let mut agent = Agent::start(store.path());
    assert_eq!(agent.ask("open"), "done");
    assert_eq!(agent.ask("producer exclusive"), "done");
    agent.signal(nix::sys::signal::Signal::SIGSTOP);
    assert!(is_taken(exclusive(&queue), "producer"));
    assert_eq!(store.repair().expect("repair").recovered, 0);
    agent.signal(nix::sys::signal::Signal::SIGCONT);
    assert_eq!(agent.ask("publish x"), "done");
    assert_eq!(take(&holder(&queue)).payload(), b"x");
}

#[test]
fn any_number_of_the_dead_stand_in_nobodys_way() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let mut agents: Vec<Agent> = (0..3).map(|_| Agent::start(store.path())).collect();
    for agent in &mut agents {
        assert_eq!(agent.ask("open"), "done");
        assert_eq!(agent.ask("producer shared"), "done");
    }
    agents.into_iter().for_each(Agent::kill);
    exclusive(&queue).expect("there is no living producer");
}
