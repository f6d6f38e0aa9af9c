//! Making queues and looking at them.

mod common;

use common::{Session, until};
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::json;

#[test]
fn create_says_what_it_made() {
    let session = Session::new();
    let first = session.text(&["create", "a", "--capacity", "2048", "--max-message", "64K"]);
    let store = session.store();
    assert_eq!(
        first,
        format!(
            "created the store {}\ncreated the queue a: 2,048 slots of 128 bytes, messages up to 64 KiB\n",
            store.display()
        )
    );
    let second =
        session.json(&["create", "b", "--slot-size", "256", "--order", "ordered", "--max-groups", "3"]);
    assert_eq!((&second["store_created"], &second["queue_created"]), (&json!(false), &json!(true)));
    assert_eq!((&second["slot_size"], &second["max_groups"]), (&json!(256), &json!(3)));
    assert_eq!(second["groups"][0]["options"]["order"], "ordered");
    assert_eq!(session.text(&["ls"]), "a\nb\n");
    assert_eq!(session.json(&["ls"]), json!(["a", "b"]));
}

#[test]
fn the_store_option_goes_before_the_environment() {
    let session = Session::with_queue(&[]);
    let other = session.path("other");
    let args = ["--store", other.to_str().unwrap(), "create", "elsewhere"];
    session.run(&args).assert().success();
    assert_eq!(session.text(&["ls"]), "q\n");
    assert_eq!(session.text(&["ls", "--store", other.to_str().unwrap()]), "elsewhere\n");
}

#[test]
fn info_and_stats_show_where_things_stand() {
    let session = Session::with_queue(&["--capacity", "1024", "--max-deliveries", "7"]);
    session.publish_lines("a\nb\nc\n");
    session.run(&["consume", "q", "--count", "1", "--exec", "exit 75"]).assert().success();
    let info = session.json(&["info", "q"]);
    assert_eq!(
        (&info["name"], &info["capacity"], &info["positions"]),
        (&json!("q"), &json!(1_024), &json!(3))
    );
    let group = &info["groups"][0];
    assert_eq!(group["options"]["max_deliveries"], 7);
    let [depth, ready, retrying, leased] =
        ["depth", "ready", "retrying", "leased"].map(|n| group[n].as_u64().unwrap());
    assert_eq!([depth, ready, retrying, leased], [3, 2, 1, 0]);
    assert_eq!(session.json(&["stats"])[0], session.json(&["stats", "q"])[0]);

    let table = session.text(&["stats"]);
    let header: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        header,
        ["queue", "group", "depth", "ready", "leased", "retrying", "dead", "lag", "consumers"]
    );
    let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    // The lag is by a hint, so it is not looked at here.
    assert_eq!((&row[..7], row[8]), (&["q", "default", "3", "2", "0", "1", "0"][..], "0"));
    session.run(&["info", "q"]).assert().success().stdout(contains("1,024 slots of 128 bytes"));
}

#[test]
fn info_shows_who_is_attached() {
    let session = Session::with_queue(&[]);
    let follower = session.start(&["consume", "q", "--follow"]);
    until("the follower is there", || session.group()["consumers"] == 1);
    let info = session.json(&["info"]);
    let pids: Vec<_> = info["participants"].as_array().unwrap().iter().map(|p| p["pid"].clone()).collect();
    assert!(pids.contains(&json!(follower.child.id())), "{info}");
    assert!(session.text(&["info"]).contains(&follower.child.id().to_string()));
}

#[test]
fn stats_can_be_watched() {
    use std::io::{BufRead, BufReader};
    let session = Session::with_queue(&[]);
    let mut watch = session.start(&["stats", "--watch", "0.01", "--json"]);
    let mut lines = BufReader::new(watch.child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("\"ready\":0"));
    session.publish("x");
    // It ends by its reader going away.
    assert!(lines.any(|line| line.unwrap().contains("\"ready\":1")));
    drop(lines);
    assert_eq!(watch.end(), (Some(0), String::new()));
}

#[test]
fn a_dead_consumer_is_repaired_by_hand() {
    let session = Session::with_queue(&[]);
    session.publish("held");
    let began = session.path("began");
    let script = format!("touch {}; exec sleep 600", began.display());
    let consumer = session.start(&["consume", "q", "--follow", "--exec", &script]);
    until("the message is held", || began.exists());
    assert_eq!(session.counts(), [0, 1, 0, 0]);
    drop(consumer);
    let report = session.json(&["repair"]);
    let after = session.json_lines(&["consume", "q", "--timeout", "10s", "--count", "1"]);
    assert_eq!(
        (&after[0]["payload"], &after[0]["attempt"], &after[0]["failures"]),
        (&json!("held"), &json!(2), &json!(1))
    );
    // Whoever came first did it: the repair, or the command before it.
    assert!(report["returned"].as_u64().unwrap() <= 1, "{report}");
    session.run(&["repair"]).assert().success().stdout(contains("dead processes recovered"));
}

#[test]
fn verify_finds_nothing_wrong_with_a_queue_in_use() {
    let session = Session::with_queue(&["--max-deliveries", "1"]);
    session.publish_lines("a\nb\nc\nd\n");
    session.run(&["consume", "q", "--count", "1", "--exec", "exit 1"]).assert().success();
    session.run(&["consume", "q", "--count", "1"]).assert().success();
    let verified = session.json(&["verify"]);
    assert_eq!((&verified[0]["queue"], &verified[0]["violations"]), (&json!("q"), &json!([])));
    assert!(verified[0]["checked"].as_u64().unwrap() > 0);
    session.run(&["verify", "q"]).assert().success().stdout(contains("violations"));
}

#[test]
fn help_names_the_exit_codes() {
    let session = Session::new();
    session
        .run(&["help"])
        .assert()
        .success()
        .stdout(contains("Exit codes:").and(contains("the queue is full")));
    session.run::<&str>(&[]).assert().code(2);
    session.run(&["--version"]).assert().success().stdout(contains(env!("CARGO_PKG_VERSION")));
}
