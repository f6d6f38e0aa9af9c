//! Processes that are killed at any moment, the one that writes the journal among them, and then the power goes.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use ringway::{Lease, OnFull, Store};

use crate::{Scene, left, small};

/// Tells this binary that it is to be killed, and what it is to do until then.
const PART: &str = "RINGWAY_DURABLE_PART";
const STORE: &str = "RINGWAY_DURABLE_STORE";
const MARK: &str = "told> ";

/// How many processes are killed; a full run sets it higher.
const KILLS: &str = "DURABLE_KILLS";

/// Not a test by itself: what those who are killed run.
#[test]
fn victim() {
    let (Ok(part), Some(store)) = (std::env::var(PART), std::env::var_os(STORE)) else { return };
    let store = Store::open(Path::new(&store)).expect("the store");
    let queue = store.queue("q").expect("the queue");
    let (part, name) = part.split_once(' ').expect("a part and a name");
    if part == "publish" {
        let producer =
            queue.producer().on_full(OnFull::Block(Duration::from_secs(60))).build().expect("a producer");
        for n in 0_u32.. {
            let id = format!("{name}-{n}");
            println!("{MARK}offered {id}");
            producer.publish_confirmed(id.clone()).expect("confirmed");
            println!("{MARK}confirmed {id}");
        }
    } else {
        let worker = queue.consumer("default").lease(Lease::UntilDeath).build().expect("a consumer");
        loop {
            let delivery = worker.receive().expect("a message");
            let id = String::from_utf8_lossy(delivery.payload()).into_owned();
            println!("{MARK}got {id}");
            delivery.ack_durable().expect("acked");
            println!("{MARK}acked {id}");
        }
    }
}

struct Victim {
    process: Child,
    told: Receiver<String>,
}

impl Victim {
    fn start(scene: &Scene, part: &str, name: &str) -> Victim {
        let mut process = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "kills::victim", "--nocapture", "--test-threads=1"])
            .env(PART, format!("{part} {name}"))
            .env(STORE, &scene.dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a victim");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let (sender, told) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some((_, what)) = line.split_once(MARK) {
                    let _ = sender.send(what.to_owned());
                }
            }
        });
        Victim { process, told }
    }

    /// Kills it once it has said this many things more, and hears the rest.
    fn kill_after(mut self, lines: usize, history: &mut History) {
        for _ in 0..lines {
            match self.told.recv_timeout(Duration::from_millis(500)) {
                Ok(line) => history.hear(&line),
                // It has nothing more to say: those that it waits for are dead.
                Err(_) => break,
            }
        }
        self.process.kill().expect("kill");
        self.process.wait().expect("wait");
        while let Ok(line) = self.told.recv_timeout(Duration::from_secs(60)) {
            history.hear(&line);
        }
    }
}

/// What everybody was told.
#[derive(Default)]
struct History {
    offered: BTreeSet<String>,
    confirmed: BTreeSet<String>,
    acked: BTreeSet<String>,
    /// Received, and not known to be acked: who was killed in the middle of an ack may have done it.
    in_doubt: BTreeSet<String>,
}

impl History {
    fn hear(&mut self, line: &str) {
        let (what, id) = line.split_once(' ').expect("a word and an id");
        let id = id.to_owned();
        match what {
            "offered" => drop(self.offered.insert(id)),
            "confirmed" => drop(self.confirmed.insert(id)),
            "acked" => drop(self.acked.insert(id)),
            _ => drop(self.in_doubt.insert(id)),
        }
    }

    /// What is left must be what was confirmed and not acked, and at most what was offered besides.
    fn judge(&self, left: &[String]) {
        let found: BTreeSet<String> = left.iter().cloned().collect();
        assert_eq!(found.len(), left.len(), "something is there twice");
        let owed: BTreeSet<String> = self.confirmed.difference(&self.acked).cloned().collect();
        let lost: Vec<_> = owed.difference(&found).filter(|id| !self.in_doubt.contains(*id)).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        let phantom: Vec<_> = found.difference(&self.offered).collect();
        assert!(phantom.is_empty(), "never offered: {phantom:?}");
        let again: Vec<_> = found.intersection(&self.acked).collect();
        assert!(again.is_empty(), "acked for good, and there again: {again:?}");
    }
}

#[test]
fn confirmed_messages_outlive_their_killed_writers_and_the_power_cut() {
    let kills: u32 = std::env::var(KILLS).ok().and_then(|kills| kills.parse().ok()).unwrap_or(24);
    let scene = Scene::new();
    {
        let store = scene.store_with(|options| options.segment_len = 256 << 10);
        small().create(&store, "q").unwrap();
    }
    let mut history = History::default();
    for round in 0..kills / 4 {
        // So many lines that a death falls anywhere in what they do.
        let lines = |salt: u32| 3 + ((round * 7919 + salt * 104_729) % 97) as usize;
        let victims = ["publish", "publish", "consume", "consume"];
        let victims: Vec<Victim> = (0..)
            .zip(victims)
            .map(|(index, part)| Victim::start(&scene, part, &format!("{round}.{index}")))
            .collect();
        for (victim, salt) in victims.into_iter().zip(0..) {
            victim.kill_after(lines(salt), &mut history);
        }
        if round % 2 == 1 {
            scene.cut();
            let store = scene.reopen();
            history.judge(&left(&store.queue("q").unwrap(), "default"));
        }
    }
    scene.cut();
    let store = scene.reopen();
    history.judge(&left(&store.queue("q").unwrap(), "default"));
    assert!(history.confirmed.len() > kills as usize, "{} confirmed", history.confirmed.len());
}
