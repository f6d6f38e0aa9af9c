//! Messages in and out, in every form, with nothing changed on the way.

mod common;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;

use common::{Session, fails, until};
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn an_argument_comes_out_as_it_went_in() {
    let session = Session::with_queue(&[]);
    for message in ["hello", "", "żółć 🚲", "-dash", "two\nlines"] {
        session.publish(message);
        assert_eq!(session.text(&["consume", "q"]), format!("{message}\n"));
    }
    assert_eq!(session.counts(), [0; 4]);
}

#[test]
fn an_argument_need_not_be_utf8() {
    let session = Session::with_queue(&[]);
    let args: [&OsStr; 3] = ["publish".as_ref(), "q".as_ref(), OsStr::from_bytes(b"\xff\xfe\x01")];
    session.run(&args).assert().success();
    assert_eq!(session.stdout(&["consume", "q"]), b"\xff\xfe\x01\n");
}

#[test]
fn stdin_is_one_message_whatever_its_bytes() {
    let session = Session::with_queue(&[]);
    let payload: Vec<u8> = (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    session.run(&["publish", "q"]).write_stdin(payload.clone()).assert().success();
    let mut expected = payload.clone();
    expected.push(b'\n');
    assert_eq!(session.json_lines(&["peek", "q"]).len(), 1);
    assert!(session.stdout(&["consume", "q"]) == expected, "the payload was changed");
}

#[test]
fn binary_payloads_are_base64_in_json() {
    let session = Session::with_queue(&[]);
    session.run(&["publish", "q"]).write_stdin(&b"a\0\xff\n"[..]).assert().success();
    session.publish("text");
    let lines = session.json_lines(&["consume", "q"]);
    assert_eq!(lines[0]["payload_base64"], "YQD/Cg==");
    assert_eq!(lines[0].get("payload"), None);
    assert_eq!(lines[1]["payload"], "text");
    assert_eq!(lines[1].get("payload_base64"), None);
}

#[test]
fn lines_keep_all_bytes_but_the_newline() {
    let session = Session::with_queue(&[]);
    session.run(&["publish", "q", "--lines"]).write_stdin(&b"a\r\n\n\xffb\nlast"[..]).assert().success();
    assert_eq!(session.stdout(&["consume", "q"]), b"a\r\n\n\xffb\nlast\n");
    let nothing = session.run(&["publish", "q", "--lines", "--json"]).write_stdin("").output().unwrap();
    let printed: Value = serde_json::from_slice(&nothing.stdout).unwrap();
    assert_eq!(printed, json!({"published": 0, "first_position": null, "last_position": null}));
}

#[test]
fn many_lines_come_out_in_order() {
    let session = Session::with_queue(&[]);
    let lines: String = (0..10_000).map(|i| format!("line {i} {}\n", "x".repeat(i % 200))).collect();
    session.publish_lines(&lines);
    assert!(session.text(&["consume", "q"]) == lines, "the lines were changed or reordered");
}

#[test]
fn lines_are_published_as_they_come() {
    let session = Session::with_queue(&[]);
    let mut publisher = session.start(&["publish", "q", "--lines"]);
    let stdin = publisher.child.stdin.as_mut().unwrap();
    stdin.write_all(b"first\nsec").unwrap();
    until("the whole line is in", || session.counts()[0] == 1);
    stdin.write_all(b"ond\n").unwrap();
    until("the second is in", || session.counts()[0] == 2);
    drop(publisher.child.stdin.take());
    assert_eq!(publisher.end(), (Some(0), String::new()));
    assert_eq!(session.text(&["consume", "q"]), "first\nsecond\n");
}

#[test]
fn json_lines_are_checked_and_labelled() {
    let session = Session::with_queue(&[]);
    session.run(&["publish", "q", "--jsonl"]).write_stdin("{\"a\": 1}\n[2]\r\n\"3\"").assert().success();
    let lines = session.json_lines(&["consume", "q"]);
    let payloads: Vec<_> = lines.iter().map(|line| line["payload"].as_str().unwrap()).collect();
    assert_eq!(payloads, ["{\"a\": 1}", "[2]\r", "\"3\""]);
    assert!(lines.iter().all(|line| line["content_type"] == "application/json"));
}

#[test]
fn the_first_bad_line_ends_it() {
    for (bad, what) in [(&b"{"[..], "not valid JSON"), (b"", "not valid JSON"), (b"\"\xff\"", "not UTF-8")] {
        let session = Session::with_queue(&[]);
        let input = [&b"1\n2\n"[..], bad, b"\n4\n"].concat();
        let mut command = session.run(&["publish", "q", "--jsonl", "--json"]);
        command.write_stdin(input);
        let failed = fails(command, 1, what);
        let stderr = String::from_utf8_lossy(&failed.get_output().stderr).into_owned();
        assert!(stderr.contains("line 3: ") && stderr.contains("2 before it were published"), "{stderr}");
        let printed: Value = serde_json::from_slice(&failed.get_output().stdout).unwrap();
        assert_eq!(printed["published"], 2);
        assert_eq!(session.text(&["consume", "q"]), "1\n2\n");
    }
}

#[test]
fn a_line_over_the_limit_ends_it_and_leaves_nothing_of_itself() {
    let session = Session::with_queue(&["--max-message", "1K"]);
    for (length, headers) in [(2_000, &[][..]), (1_020, &["--header", "name=0123456789"][..])] {
        let input = format!("before\n{}\nafter\n", "x".repeat(length));
        let mut command = session.run(&["publish", "q", "--lines"]);
        command.args(headers).write_stdin(input);
        fails(command, 1, "line 2: ");
        assert_eq!(session.text(&["consume", "q"]), "before\n");
    }
    let mut whole = session.run(&["publish", "q"]);
    whole.write_stdin("x".repeat(100_000));
    fails(whole, 1, "the queue takes");
    assert_eq!(session.counts(), [0; 4]);
}

#[test]
fn headers_travel_along() {
    let session = Session::with_queue(&[]);
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let printed = session.json(&[
        "publish",
        "q",
        "hi",
        "--type",
        "order.placed",
        "--correlation-id",
        "c-17",
        "--content-type",
        "text/plain",
        "--traceparent",
        traceparent,
        "--header",
        "tenant=blue",
        "--header",
        "note=a=b",
        "--header",
        "tenant=red",
    ]);
    let position = printed["first_position"].as_u64().unwrap();
    assert_eq!(printed, json!({"published": 1, "first_position": position, "last_position": position}));
    let expected = json!({
        "position": position, "attempt": 1, "failures": 0,
        "type": "order.placed", "correlation_id": "c-17", "content_type": "text/plain",
        "traceparent": traceparent,
        "headers": [
            {"name": "tenant", "value": "blue"}, {"name": "note", "value": "a=b"}, {"name": "tenant", "value": "red"}
        ],
        "payload": "hi",
    });
    assert_eq!(session.json_lines(&["consume", "q"]), [expected]);
}

#[test]
fn peek_changes_nothing() {
    let session = Session::with_queue(&[]);
    session.publish_lines("a\nb\nc\n");
    let peeked = session.json_lines(&["peek", "q", "--limit", "2"]);
    assert_eq!(peeked.len(), 2);
    assert_eq!((&peeked[0]["payload"], &peeked[0]["state"]), (&json!("a"), &json!("ready")));
    assert!(session.text(&["peek", "q"]).contains('c'));
    assert_eq!(session.counts(), [3, 0, 0, 0]);
    let lines = session.json_lines(&["consume", "q"]);
    assert!(lines.iter().all(|line| line["attempt"] == 1), "{lines:?}");
}

#[test]
fn count_leaves_the_rest() {
    let session = Session::with_queue(&[]);
    session.publish_lines("a\nb\nc\n");
    assert_eq!(session.text(&["consume", "q", "--count", "2"]), "a\nb\n");
    assert_eq!(session.counts(), [1, 0, 0, 0]);
    assert_eq!(session.text(&["consume", "q", "--delete"]), "c\n");
    assert_eq!(session.text(&["consume", "q", "--timeout", "50ms"]), "");
    assert_eq!(session.counts(), [0; 4]);
}

#[test]
fn follow_waits_for_messages() {
    for wait in ["spin", "adaptive", "park"] {
        let session = Session::with_queue(&[]);
        let mut follower = session.start(&["consume", "q", "--follow", "--count", "2", "--wait", wait]);
        let mut lines = BufReader::new(follower.child.stdout.take().unwrap()).lines();
        session.publish("first");
        assert_eq!(lines.next().unwrap().unwrap(), "first");
        session.publish("second");
        assert_eq!(lines.next().unwrap().unwrap(), "second");
        assert_eq!(follower.end(), (Some(0), String::new()));
        assert_eq!(session.counts(), [0; 4]);
    }
}

#[test]
fn signals_end_a_follower_with_all_settled() {
    for (signal, code) in [(Signal::TERM, 0), (Signal::INT, 130)] {
        let session = Session::with_queue(&[]);
        let mut follower = session.start(&["consume", "q", "--follow"]);
        session.publish("first");
        let mut line = String::new();
        BufReader::new(follower.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        until("the message is acked", || session.counts() == [0; 4]);
        follower.signal(signal);
        assert_eq!(follower.end(), (Some(code), String::new()));
        until("the consumer is gone", || session.group()["consumers"] == 0);
    }
}

#[test]
fn a_reader_that_is_gone_from_the_start_takes_nothing() {
    let session = Session::with_queue(&[]);
    session.publish_lines("a\nb\nc\n");
    for args in [
        &["consume", "q"][..],
        &["consume", "q", "--json"],
        &["ls"],
        &["stats"],
        &["peek", "q"],
        &["export", "q"],
        &["help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(session.start_to(args, writer).end(), (Some(0), String::new()), "{args:?}");
    }
    until("all are back", || session.counts()[0] + session.counts()[2] == 3);
    assert!(session.json_lines(&["peek", "q"]).iter().all(|message| message["failures"] == 0));
}

#[test]
fn a_reader_that_goes_leaves_what_it_did_not_get() {
    const LENGTH: usize = 100_000;
    let session = Session::with_queue(&[]);
    let lines: String = (0..8).map(|i| format!("{}\n", i.to_string().repeat(LENGTH))).collect();
    session.publish_lines(&lines);
    let mut consumer = session.start(&["consume", "q"]);
    let mut stdout = consumer.child.stdout.take().unwrap();
    let mut read = vec![0; 3 * LENGTH];
    stdout.read_exact(&mut read).unwrap();
    assert_eq!(read, lines.as_bytes()[..3 * LENGTH]);
    drop(stdout);
    assert_eq!(consumer.end(), (Some(0), String::new()));
    // At least two messages were read whole; the pipe cannot have held more than one whole one besides.
    let [ready, leased, retrying, dead] = session.counts();
    assert_eq!((leased, dead), (0, 0));
    assert!((5..=6).contains(&(ready + retrying)), "{ready} ready, {retrying} retrying");
}

#[test]
fn a_full_disk_takes_nothing() {
    let session = Session::with_queue(&[]);
    session.publish("precious");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (code, stderr) = session.start_to(&["consume", "q"], full).end();
    assert_eq!(code, Some(9));
    assert!(stderr.starts_with("ringway: writing to stdout: ") && stderr.lines().count() == 1, "{stderr}");
    until("it is back", || session.counts()[0] + session.counts()[2] == 1);
    assert_eq!(session.text(&["consume", "q", "--timeout", "10s", "--count", "1"]), "precious\n");
}

#[test]
fn groups_each_get_everything() {
    let session = Session::with_queue(&[]);
    session.publish("before");
    session.run(&["group", "add", "q", "late"]).assert().success();
    session.run(&["group", "add", "q", "early", "--from", "oldest"]).assert().success();
    session.publish("after");
    assert_eq!(session.text(&["consume", "q"]), "before\nafter\n");
    assert_eq!(session.text(&["consume", "q", "--group", "late"]), "after\n");
    assert_eq!(session.text(&["consume", "q", "--group", "early"]), "before\nafter\n");
    session.run(&["group", "rm", "q", "late"]).assert().success();
    let names: Vec<_> =
        session.json(&["group", "ls", "q"]).as_array().unwrap().iter().map(|g| g["name"].clone()).collect();
    assert_eq!(names, ["default", "early"]);
}
