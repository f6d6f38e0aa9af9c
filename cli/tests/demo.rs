//! The demo shows what it is to show, and leaves nothing behind.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};

use common::{Session, fails, until};
use rustix::process::Signal;

/// What the demo with this process id has left: directories, and processes that were started for it.
fn left_over(pid: u32) -> Vec<String> {
    let name = format!("ringway-demo-{pid}-");
    let dirs = ["/dev/shm", "/var/tmp"].map(|place| fs::read_dir(place).into_iter().flatten());
    let dirs = dirs.into_iter().flatten();
    let dirs = dirs.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let command = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&command).into_owned())
    });
    dirs.chain(processes).filter(|found| found.contains(&name)).collect()
}

#[test]
fn nothing_is_lost_and_the_faults_are_seen() {
    let session = Session::new();
    let report = session.json(&["demo", "--orders", "60"]);
    let keys: Vec<_> = report.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected =
        ["placed", "delivered", "redelivered", "duplicates", "stale_acks_refused", "lost", "redelivery_ms"];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    let count = |key: &str| report[key].as_u64().unwrap();
    assert_eq!((count("placed"), count("delivered"), count("lost")), (60, 60, 0), "{report}");
    assert!(
        count("redelivered") >= 2 && count("duplicates") >= 1 && count("stale_acks_refused") >= 1,
        "{report}"
    );
    assert!(report["redelivery_ms"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn the_fewest_orders_will_do() {
    let session = Session::new();
    for orders in ["2", "3"] {
        let report = session.json(&["demo", "--orders", orders]);
        assert_eq!(report["placed"].to_string(), orders);
        assert_eq!(report["lost"], 0);
    }
}

#[test]
fn it_tells_the_story_without_a_terminal() {
    let session = Session::new();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/orders.jsonl");
    let input = session.path("orders.jsonl");
    let sample = fs::read_to_string(sample).unwrap();
    fs::write(&input, sample.lines().take(50).collect::<Vec<_>>().join("\n")).unwrap();
    let told = session.text(&["demo", "--input", input.to_str().unwrap(), "--workers", "4"]);
    for part in ["killed by SIGKILL", "after the kill", "paused by SIGSTOP", "was refused"] {
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
    let row = |name: &str| {
        told.lines().find(|line| line.starts_with(name)).map(|line| line.split_whitespace().last())
    };
    assert_eq!(row("orders placed"), Some(Some("50")));
    assert_eq!(row("delivered"), Some(Some("50")));
    assert_eq!(row("lost"), Some(Some("0")));
}

#[test]
fn a_power_cut_loses_nothing_that_was_confirmed() {
    let session = Session::new();
    let report = session.json(&["demo", "--durable", "--orders", "60"]);
    let count = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("no {key} in {report}"));
    assert_eq!((count("confirmed"), count("delivered"), count("lost")), (60, 60, 0), "{report}");
    let (before, delivered) = (count("confirmed_before_cut"), count("delivered_before_cut"));
    assert!(before > 30 && delivered >= 15 && delivered < before, "{report}");
    assert!(count("there_after_cut") > 0 && count("missing_after_cut") == 0, "{report}");
    assert!(report["recovery_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{report}");
    assert!(report["redelivered"].is_u64() && report["placed_again"].is_u64(), "{report}");
}

#[test]
fn the_power_cut_is_told_and_leaves_nothing_behind() {
    let session = Session::new();
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("shop");
    let dir = dir.to_str().unwrap();
    let told = session.text(&["demo", "--durable", dir, "--orders", "2", "--workers", "4"]);
    for part in ["power cut: all 5 processes are killed", "made anew from", "4 new workers", "lost"] {
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    fs::create_dir(dir).unwrap();
    fails(session.run(&["demo", "--durable", dir]), 2, "is there already");
    let store = session.store();
    fails(session.run(&["demo", "--durable", "--store", store.to_str().unwrap()]), 2, "--store");
    let mut demo = session.start(&["demo", "--durable", "--orders", "100000"]);
    let pid = demo.child.id();
    let mut story = BufReader::new(demo.child.stdout.take().unwrap());
    story.read_line(&mut String::new()).unwrap();
    assert!(left_over(pid).iter().any(|left| left.contains("/var/tmp")), "it is on a disk");
    demo.signal(Signal::INT);
    assert_eq!(demo.end(), (Some(130), String::new()));
    until("its processes are gone", || left_over(pid).is_empty());
}

#[test]
fn a_bad_line_of_the_input_is_named() {
    let session = Session::new();
    let input = session.path("orders.jsonl");
    let good = "{\"id\": 1}\n{\"id\": 2}\n";
    for (third, what) in [
        (&b"nonsense"[..], "not an order"),
        (b"{\"name\": 3}", "\"id\""),
        (b"{\"id\": 1}", "that of line 1"),
        (b"", "not an order"),
        (b"{\"id\": \"\xff\"}", "UTF-8"),
    ] {
        fs::write(&input, [good.as_bytes(), third, b"\n"].concat()).unwrap();
        let failed = fails(session.run(&["demo", "--input", input.to_str().unwrap()]), 1, what);
        assert!(String::from_utf8_lossy(&failed.get_output().stderr).contains("line 3: "));
    }
    fails(session.run(&["demo", "--input", "/no/such/file"]), 1, "/no/such/file");
}

#[test]
fn a_store_that_was_chosen_is_left_as_it_was() {
    let session = Session::with_queue(&[]);
    session.publish("mine");
    let store = session.store();
    let store = store.to_str().unwrap();
    assert_eq!(session.json(&["demo", "--orders", "10", "--store", store])["lost"], 0);
    assert_eq!(session.text(&["ls"]), "q\n");
    assert_eq!(session.text(&["consume", "q"]), "mine\n");

    let new = session.path("new");
    assert_eq!(session.json(&["demo", "--orders", "10", "--store", new.to_str().unwrap()])["lost"], 0);
    assert!(!new.exists());
}

#[test]
fn it_leaves_nothing_behind() {
    let session = Session::new();
    let mut demo = session.start(&["demo", "--orders", "10"]);
    let pid = demo.child.id();
    let mut story = BufReader::new(demo.child.stdout.take().unwrap());
    let mut line = String::new();
    story.read_line(&mut line).unwrap();
    assert!(!left_over(pid).is_empty(), "the look for what is left over does not find what is there");
    std::io::copy(&mut story, &mut std::io::sink()).unwrap();
    assert_eq!(demo.end(), (Some(0), String::new()));
    assert_eq!(left_over(pid), [""; 0]);
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    let session = Session::new();
    let mut demo = session.start(&["demo", "--orders", "100000"]);
    let pid = demo.child.id();
    // Kept open: a reader that goes away would end it as well.
    let mut story = BufReader::new(demo.child.stdout.take().unwrap());
    let mut line = String::new();
    story.read_line(&mut line).unwrap();
    assert!(line.contains("workers are ready"), "{line}");
    demo.signal(Signal::INT);
    assert_eq!(demo.end(), (Some(130), String::new()));
    until("its processes are gone", || left_over(pid).is_empty());
}
