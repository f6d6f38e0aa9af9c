//! `consume --exec`: what the command is given, and what its end does to the message.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};

use common::{Session, until};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn the_command_is_told_everything() {
    let session = Session::with_queue(&[]);
    let args = ["publish", "q", "the payload", "--type", "t", "--correlation-id", "c"];
    session.run(&args).assert().success();
    session.publish("plain");
    let names = ["QUEUE", "GROUP", "POSITION", "ATTEMPT", "TYPE", "CORRELATION_ID"];
    let shown: Vec<_> = names.map(|name| format!("${{RINGWAY_{name}-unset}}")).to_vec();
    let script = format!("cat; echo \" {}\"", shown.join(" "));
    let positions: Vec<_> =
        session.json_lines(&["peek", "q"]).iter().map(|m| m["position"].clone()).collect();
    let mut command = session.run(&["consume", "q", "--exec", script.as_str()]);
    // Those of a consumer around this one are not handed on.
    let output = command.env("RINGWAY_TYPE", "outer").output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!(
            "the payload q default {} 1 t c\nplain q default {} 1 unset unset\n",
            positions[0], positions[1]
        )
    );
    assert_eq!(session.counts(), [0; 4]);
}

#[test]
fn binary_payloads_reach_the_command_unchanged() {
    let session = Session::with_queue(&[]);
    let payload: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    session.run(&["publish", "q"]).write_stdin(payload.clone()).assert().success();
    assert!(session.stdout(&["consume", "q", "--exec", "cat"]) == payload, "the payload was changed");
}

#[test]
fn a_command_need_not_read_its_stdin() {
    let session = Session::with_queue(&[]);
    session.run(&["publish", "q"]).write_stdin(vec![b'x'; 1_000_000]).assert().success();
    assert_eq!(session.text(&["consume", "q", "--exec", "true"]), "");
    assert_eq!(session.counts(), [0; 4]);
}

#[test]
fn a_temporary_failure_defers() {
    let session = Session::with_queue(&["--max-deliveries", "1"]);
    session.publish("later");
    assert_eq!(session.text(&["consume", "q", "--exec", "exit 75"]), "");
    assert_eq!(session.counts(), [0, 0, 1, 0]);
    assert_eq!(session.json_lines(&["peek", "q"])[0]["failures"], 0);
    // Not before its time.
    assert_eq!(session.text(&["consume", "q"]), "");
}

#[test]
fn other_ends_are_failures() {
    for end in ["exit 1", "exit 255", "kill -9 $$", "no-such-command-anywhere", "syntax error ("] {
        let session = Session::with_queue(&["--backoff", "1h", "--backoff-cap", "1h"]);
        session.publish("bad");
        let output = session.run(&["consume", "q", "--exec", end]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{end}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            stderr.lines().any(|l| l.starts_with("ringway: position ") && l.contains("failed")),
            "{stderr}"
        );
        assert_eq!(session.counts(), [0, 0, 1, 0], "{end}");
        assert_eq!(session.json_lines(&["peek", "q"])[0]["failures"], 1, "{end}");
    }
}

#[test]
fn too_many_failures_are_a_dead_letter() {
    let session = Session::with_queue(&["--max-deliveries", "3", "--backoff", "1ms", "--backoff-cap", "1ms"]);
    session.publish("poison");
    let seen = session.path("seen");
    let script = format!("echo $RINGWAY_ATTEMPT >> {}; exit 1", seen.display());
    session.run(&["consume", "q", "--timeout", "1s", "--exec", script.as_str()]).assert().success();
    assert_eq!(fs::read_to_string(&seen).unwrap(), "1\n2\n3\n");
    assert_eq!(session.counts(), [0, 0, 0, 1]);
    let dead = session.json_lines(&["dead", "ls", "q"]);
    let position = dead[0]["position"].as_u64().unwrap();
    assert_eq!(
        dead,
        [json!({
            "position": position, "reason": "max_deliveries", "failures": 3, "attempts": 3, "payload": "poison"
        })]
    );

    assert_eq!(session.json(&["dead", "retry", "q", "--all"]), json!({"retried": 1}));
    let again = session.json_lines(&["consume", "q", "--timeout", "1s"]);
    assert_eq!((&again[0]["payload"], &again[0]["failures"]), (&json!("poison"), &json!(0)));
}

#[test]
fn dead_letters_are_purged_by_position() {
    let session = Session::with_queue(&["--max-deliveries", "1"]);
    session.publish_lines("a\nb\n");
    session.run(&["consume", "q", "--exec", "exit 1"]).assert().success();
    let dead = session.json_lines(&["dead", "ls", "q"]);
    let first = dead[0]["position"].to_string();
    assert_eq!(session.json(&["dead", "purge", "q", "--position", &first]), json!({"purged": 1}));
    common::fails(
        session.run(&["dead", "purge", "q", "--position", first.as_str()]),
        1,
        "no dead letter at position",
    );
    assert_eq!(session.counts(), [0, 0, 0, 1]);
    assert!(session.text(&["dead", "ls", "q"]).contains("failed too often"));
    assert_eq!(session.text(&["dead", "purge", "q", "--all"]), "1 dead letter deleted\n");
    assert_eq!(session.counts(), [0; 4]);
}

#[test]
fn leases_last_as_long_as_the_command() {
    let session = Session::with_queue(&[]);
    session.publish("slow");
    let reports = session.json_lines(&["consume", "q", "--lease", "1s", "--exec", "sleep 2.5"]);
    assert_eq!(reports[0]["outcome"], "acked");
    assert_eq!((session.counts(), session.group()["expired"].clone()), ([0; 4], json!(0)));
}

#[test]
fn reports_are_json_and_the_commands_words_are_not_among_them() {
    let session = Session::with_queue(&["--backoff", "1h", "--backoff-cap", "1h"]);
    session.publish_lines("0\n7\n75\n");
    let output = session
        .run(&["consume", "q", "--json", "--exec", "read code; echo word; exit $code"])
        .output()
        .unwrap();
    let lines: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let outcomes: Vec<_> =
        lines.iter().map(|l| (l["outcome"].as_str().unwrap(), l["exit_code"].clone())).collect();
    assert_eq!(outcomes, [("acked", json!(0)), ("nacked", json!(7)), ("deferred", json!(75))]);
    assert_eq!(String::from_utf8_lossy(&output.stderr).matches("word\n").count(), 3);
}

#[test]
fn commands_run_side_by_side() {
    let session = Session::with_queue(&[]);
    session.publish_lines("a\nb\nc\n");
    let dir = session.path("met");
    fs::create_dir(&dir).unwrap();
    // None ends before three have begun.
    let script = format!(
        "cd {}; touch $RINGWAY_POSITION; while [ $(ls | wc -l) -lt 3 ]; do sleep 0.02; done",
        dir.display()
    );
    let args = ["consume", "q", "--concurrency", "3", "--follow", "--count", "3", "--exec", script.as_str()];
    session.run(&args).assert().success();
    assert_eq!(session.counts(), [0; 4]);
}

#[test]
fn a_signal_waits_for_the_command_and_takes_no_more() {
    let session = Session::with_queue(&[]);
    session.publish_lines("a\nb\n");
    let (began, go) = (session.path("began"), session.path("go"));
    let script = format!("touch {}; while [ ! -e {} ]; do sleep 0.02; done", began.display(), go.display());
    let mut consumer = session.start(&["consume", "q", "--follow", "--batch", "2", "--exec", &script]);
    until("the command runs", || began.exists());
    consumer.signal(Signal::TERM);
    until_taken(&mut consumer);
    fs::write(&go, "").unwrap();
    assert_eq!(consumer.end(), (Some(0), String::new()));
    assert_eq!(session.text(&["consume", "q", "--timeout", "10s", "--count", "1"]), "b\n");
    assert_eq!(session.counts(), [0; 4]);
}

#[test]
fn a_second_signal_ends_the_command_and_blames_nobody() {
    let session = Session::with_queue(&["--max-deliveries", "1"]);
    session.publish("a");
    let began = session.path("began");
    let script = format!("touch {}; exec sleep 600", began.display());
    let mut consumer = session.start(&["consume", "q", "--follow", "--exec", &script]);
    until("the command runs", || began.exists());
    consumer.signal(Signal::INT);
    until_taken(&mut consumer);
    consumer.signal(Signal::INT);
    assert_eq!(consumer.end(), (Some(130), String::new()));
    let again = session.json_lines(&["consume", "q", "--timeout", "1s"]);
    assert_eq!((&again[0]["payload"], &again[0]["failures"]), (&json!("a"), &json!(0)));
}

/// Waits until `ringway` says that it took the signal: two at once could count as one.
fn until_taken(running: &mut common::Running) {
    let mut stderr = BufReader::new(running.child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "ringway: waiting for the commands that run; once more ends them\n");
    running.child.stderr = Some(stderr.into_inner());
}
