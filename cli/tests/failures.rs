//! What cannot be done: one line on stderr, and the exit code that says what kind it is.

mod common;

use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use common::{Session, fails, until};

/// One of each command that needs a queue.
const NEED_A_QUEUE: [&[&str]; 14] = [
    &["info", "x"],
    &["stats", "x"],
    &["rm", "x"],
    &["publish", "x", "hi"],
    &["consume", "x"],
    &["consume", "x", "--exec", "true"],
    &["peek", "x"],
    &["export", "x"],
    &["import", "x", "/dev/null"],
    &["group", "ls", "x"],
    &["group", "add", "x", "g"],
    &["dead", "ls", "x"],
    &["dead", "retry", "x", "--all"],
    &["verify", "x"],
];

#[test]
fn there_is_no_such_store() {
    let session = Session::new();
    for args in NEED_A_QUEUE.into_iter().chain([&["ls"][..], &["stats"], &["info"], &["repair"], &["verify"]])
    {
        fails(session.run(args), 3, "no store at ");
    }
    fails(session.run(&["rm", "--all", "--yes"]), 3, "no store at ");
    assert!(!session.store().exists());
}

#[test]
fn there_is_no_such_queue() {
    let session = Session::with_queue(&[]);
    for args in NEED_A_QUEUE {
        fails(session.run(args), 3, "no queue \"x\"");
    }
    assert_eq!(session.text(&["ls"]), "q\n");
}

#[test]
fn there_is_no_such_group() {
    let session = Session::with_queue(&[]);
    let args: [&[&str]; 6] = [
        &["export", "q", "--group", "x"],
        &["consume", "q", "--group", "x"],
        &["consume", "q", "--group", "x", "--exec", "true", "--concurrency", "2"],
        &["peek", "q", "--group", "x"],
        &["dead", "ls", "q", "--group", "x"],
        &["group", "rm", "q", "x"],
    ];
    for args in args {
        fails(session.run(args), 3, "no group \"x\"");
    }
}

#[test]
fn it_is_there_already() {
    let session = Session::with_queue(&[]);
    session.publish("kept");
    fails(session.run(&["create", "q"]), 1, "exists already");
    fails(session.run(&["group", "add", "q", "default"]), 1, "exists already");
    let geometry = ["create", "q", "--if-missing", "--capacity", "2048"];
    fails(session.run(&geometry), 1, "capacity");
    assert_eq!(session.json(&["create", "q", "--if-missing"])["queue_created"], false);
    assert_eq!(session.text(&["consume", "q"]), "kept\n");
}

#[test]
fn names_that_cannot_be() {
    let session = Session::with_queue(&[]);
    for name in ["a/b", "../q", "", ".hidden", "a b", "ż", &"x".repeat(65)] {
        fails(session.run(&["create", "--", name]), 2, "is not a usable name");
        fails(session.run(&["group", "add", "q", "--", name]), 2, "is not a usable name");
    }
    let not_utf8: [&OsStr; 2] = ["create".as_ref(), OsStr::from_bytes(b"q\xff")];
    fails(session.run(&not_utf8), 2, "UTF-8");
    assert_eq!(session.text(&["ls"]), "q\n");
}

#[test]
fn a_store_is_not_left_behind_by_a_queue_that_cannot_be() {
    let session = Session::new();
    fails(session.run(&["create", "q", "--capacity", "1000"]), 2, "capacity");
    fails(session.run(&["create", "a/b"]), 2, "is not a usable name");
    assert!(!session.store().exists());
}

#[test]
fn options_that_cannot_be() {
    let session = Session::with_queue(&[]);
    let args: [&[&str]; 16] = [
        &["nonsense"],
        &["publish"],
        &["publish", "q", "a", "--header", "no-value"],
        &["publish", "q", "a", "--lines"],
        &["publish", "q", "a", "--timeout", "5 parsecs"],
        &["consume", "q", "--lease", "0"],
        &["consume", "q", "--count", "0"],
        &["consume", "q", "--concurrency", "2"],
        &["consume", "q", "--exclusive", "--concurrency", "2", "--exec", "true"],
        &["create", "r", "--slot-size", "100"],
        &["export", "q", "--state", "gone"],
        &["import", "q", "/dev/null", "--from-line", "0"],
        &["import", "r", "/dev/null", "--create", "--from-line", "2"],
        &["import", "q", "/dev/null", "--on-full", "fail", "--timeout", "1s"],
        &["dead", "retry", "q"],
        &["rm", "--all"],
    ];
    for args in args {
        fails(session.run(args), 2, "");
    }
    assert_eq!(session.text(&["ls"]), "q\n");
}

#[test]
fn the_queue_is_full() {
    let session = Session::with_queue(&["--capacity", "1024"]);
    let mut command = session.run(&["publish", "q", "--lines", "--json"]);
    command.write_stdin("x\n".repeat(1_500));
    let failed = fails(command, 4, "the queue is full (1024 slots)");
    let printed: serde_json::Value = serde_json::from_slice(&failed.get_output().stdout).unwrap();
    assert_eq!(printed["published"], 1_024);
    fails(session.run(&["publish", "q", "one", "--timeout", "30ms"]), 4, "full");
    assert_eq!(session.counts(), [1_024, 0, 0, 0]);
}

#[test]
fn a_patient_publisher_gets_in() {
    let session = Session::with_queue(&["--capacity", "1024"]);
    session.publish_lines(&"x\n".repeat(1_024));
    let publisher = session.start(&["publish", "q", "last", "--timeout", "50s"]);
    session.run(&["consume", "q", "--count", "1024"]).assert().success();
    assert_eq!(publisher.end(), (Some(0), String::new()));
    assert_eq!(session.text(&["consume", "q"]), "last\n");
}

#[test]
fn the_role_is_taken() {
    let session = Session::with_queue(&[]);
    let owner = session.start(&["consume", "q", "--follow", "--exclusive"]);
    until("the role is taken", || !session.group()["exclusive_consumer"].is_null());
    fails(session.run(&["consume", "q", "--exclusive"]), 6, "taken");
    fails(session.run(&["consume", "q"]), 6, "taken");
    drop(owner);
    // The role of the dead is free again.
    assert_eq!(session.text(&["consume", "q", "--exclusive"]), "");
}

#[test]
fn what_is_in_use_is_not_removed_unless_its_users_go() {
    let session = Session::with_queue(&[]);
    let follower = session.start(&["consume", "q", "--follow"]);
    until("the consumer is there", || session.group()["consumers"] == 1);
    fails(session.run(&["group", "rm", "q", "default"]), 6, "in use");
    fails(session.run(&["rm", "q"]), 6, "in use");
    fails(session.run(&["rm", "--all", "--yes"]), 6, "in use");
    session.run(&["rm", "q", "--wait", "30s"]).assert().success();
    let (code, stderr) = follower.end();
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("was removed") && stderr.lines().count() == 1, "{stderr}");
    assert_eq!(session.text(&["ls"]), "");
}

#[test]
fn the_whole_store_is_removed_when_it_was_meant() {
    let session = Session::with_queue(&[]);
    session.publish("x");
    fails(session.run(&["rm", "--all"]), 2, "--yes");
    assert_eq!(session.counts(), [1, 0, 0, 0]);
    session.run(&["rm", "--all", "--yes"]).assert().success();
    assert!(!session.store().exists());
}

#[test]
fn files_that_are_not_what_they_should_be() {
    let session = Session::with_queue(&[]);
    let queue = session.store().join("queues/q");
    let length = fs::metadata(&queue).unwrap().len();
    OpenOptions::new().write(true).open(&queue).unwrap().set_len(length / 2).unwrap();
    for args in [&["info", "q"][..], &["publish", "q", "x"], &["consume", "q"], &["verify"], &["verify", "q"]]
    {
        fails(session.run(args), 7, "");
    }
    fs::write(&queue, "#!/bin/sh\n").unwrap();
    fails(session.run(&["peek", "q"]), 7, "");

    let session = Session::with_queue(&[]);
    fs::write(session.store().join("control"), vec![b'x'; 1 << 20]).unwrap();
    fails(session.run(&["ls"]), 7, "");
}

#[test]
fn files_that_strangers_can_write() {
    let session = Session::with_queue(&[]);
    fs::set_permissions(session.store().join("queues/q"), Permissions::from_mode(0o666)).unwrap();
    fails(session.run(&["publish", "q", "x"]), 8, "unsafe");
}
