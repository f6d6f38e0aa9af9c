//! `import`: lines become messages, nothing changed on the way and nothing half.

mod common;

use std::fs;
use std::io::Write;

use assert_cmd::Command;
use common::{Session, fails, until};
use ringway::{Message, Store};
use rustix::process::Signal;
use serde_json::{Value, json};

/// What the messages of a queue are, without where they stand.
fn contents(session: &Session, queue: &str) -> Vec<Value> {
    let mut messages = session.json_lines(&["peek", queue, "--limit", "100000"]);
    for message in &mut messages {
        let message = message.as_object_mut().expect("an object");
        for key in ["position", "state", "failures"] {
            message.remove(key);
        }
    }
    messages
}

fn import(session: &Session, args: &[&str], lines: impl Into<Vec<u8>>) -> Command {
    let mut command = session.run(&[&["import", "q"], args].concat());
    command.write_stdin(lines.into());
    command
}

/// Payloads of `q` as text, in order; they are consumed.
fn consume(session: &Session) -> String {
    session.text(&["consume", "q"])
}

#[test]
fn every_message_comes_back_as_it_was() {
    let session = Session::with_queue(&["--max-message", "256K"]);
    let store = Store::open(session.store()).unwrap();
    let producer = store.queue("q").unwrap().producer().build().unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let text: String = ('\0'..='\u{2fff}').chain("\u{1f6b2}\u{2028}\"\\".chars()).collect();
    let payloads: [&[u8]; 9] = [
        b"",
        b"plain",
        b"\0",
        b"\xff\xfe\0\x80",
        b"\xed\xa0\x80",
        bytes.as_slice(),
        text.as_bytes(),
        b"{\"a\": [1.0, 1e999, 123456789012345678901234567890], \"a\": \"\\ud800\"}",
        b"\r\n \r\n",
    ];
    for payload in payloads {
        producer.publish(payload).unwrap();
    }
    let message = Message::new(bytes.clone())
        .with_type("order.placed")
        .with_correlation_id("")
        .with_content_type("a/b")
        .with_traceparent("00-1")
        .with_tracestate("x=\"y\"\0")
        .with_header("tenant", "blue")
        .with_header("żółć \n", &text)
        .with_header("tenant", "");
    producer.publish(&message).unwrap();
    producer.publish(Message::new("").with_type("t")).unwrap();
    let expected = contents(&session, "q");
    assert_eq!(expected.len(), 11);

    let file = session.path("q.jsonl");
    for args in [&[][..], &["--json-payloads"]] {
        let exported = [&["export", "q", "--output", file.to_str().unwrap()], args].concat();
        session.run(&exported).assert().success();
        let printed = session.text(&["import", "r", "--create", file.to_str().unwrap()]);
        assert!(printed.starts_with("published 11 messages at positions "), "{printed}");
        assert!(contents(&session, "r") == expected, "with {args:?} something was changed");
        session.run(&["rm", "r"]).assert().success();
    }
}

#[test]
fn a_queue_is_made_as_the_header_says_in_a_store_that_may_be_new() {
    let options = ["--capacity", "2048", "--slot-size", "256", "--max-message", "64K", "--max-groups", "2"];
    let session = Session::with_queue(&options);
    let group = ["group", "add", "q", "g", "--order", "ordered", "--max-deliveries", "3", "--backoff", "2s"];
    session.run(&group).assert().success();
    session.publish_lines("a\nb\n");
    let whole = session.stdout(&["export", "q"]);
    let of_one = session.stdout(&["export", "q", "--group", "g"]);
    let geometry = |info: &Value| {
        let groups: Vec<_> = info["groups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|g| (g["name"].clone(), g["options"].clone()))
            .collect();
        let keys = ["capacity", "slot_size", "max_message", "max_groups"];
        (keys.map(|key| info[key].clone()), groups)
    };
    let expected = geometry(&session.json(&["info", "q"]));

    let other = Session::new();
    import(&other, &["--create"], whole.clone()).assert().success();
    assert_eq!(geometry(&other.json(&["info", "q"])), expected);
    assert_eq!(other.text(&["consume", "q", "--group", "g"]), "a\nb\n");
    assert_eq!(consume(&other), "a\nb\n");
    // It is there now, and stays as it is.
    fails(import(&other, &["--create"], whole), 1, "exists already");
    assert_eq!(other.counts(), [0; 4]);
    other.run(&["rm", "q"]).assert().success();
    import(&other, &["--create"], of_one).assert().success();
    let found = geometry(&other.json(&["info", "q"]));
    assert_eq!(found, (expected.0, expected.1[1..].to_vec()));
}

#[test]
fn a_queue_that_cannot_be_made_leaves_nothing() {
    let header = json!({
        "ringway_export": 1, "queue": "q", "capacity": 1024, "slot_size": 128, "max_message": 1024,
        "max_groups": 1, "time_unix_ms": 0, "groups": [{
            "name": "g", "order": "relaxed", "max_deliveries": 1, "backoff_ms": 1, "backoff_cap_ms": 2,
            "jitter_percent": 0,
        }],
    });
    let with = |change: fn(&mut Value)| {
        let mut header = header.clone();
        change(&mut header);
        format!("{header}\n{{\"payload\":\"p\"}}\n")
    };
    let session = Session::new();
    for (lines, code, what) in [
        (String::new(), 1, "line 1, column 1: found nothing, expected the header"),
        ("{\"payload\":\"\"}\n".to_string(), 1, "line 1, column 1: found no header"),
        ("{\"ringway_export\":1}".to_string(), 1, "line 1, column 20: missing field"),
        (format!("{{\"ringway_export\":1{}}}", " ".repeat(2 << 20)), 1, "too long"),
        (with(|header| header["capacity"] = json!(1000)), 2, "capacity = 1000 cannot be"),
        (with(|header| header["capacity"] = json!(-1)), 1, "invalid value: integer `-1`"),
        (with(|header| header["groups"][0]["name"] = json!("a/b")), 2, "is not a usable name"),
        (with(|header| header["groups"][0]["max_deliveries"] = json!(501)), 2, "max_deliveries"),
        (with(|header| header["groups"][0]["backoff_cap_ms"] = json!(u64::MAX)), 2, "backoff cap"),
        (
            with(|header| {
                let other = json!({"name": "h"});
                let mut group = header["groups"][0].clone();
                group["name"] = other["name"].clone();
                header["groups"].as_array_mut().unwrap().push(group);
            }),
            1,
            "no place for another group",
        ),
        (with(|header| header["groups"][0]["colour"] = json!("blue")), 1, "unknown field `colour`"),
        (with(|header| header["ringway_export"] = json!(2)), 7, "found an export of version 2, expected 1"),
    ] {
        fails(import(&session, &["--create"], lines), code, what);
        assert!(!session.store().exists(), "{what}");
    }
    import(&session, &["--create"], with(|_| ())).assert().success();
    assert_eq!(session.text(&["consume", "q", "--group", "g"]), "p\n");
}

#[test]
fn lines_of_ones_own() {
    let session = Session::with_queue(&[]);
    let lines = concat!(
        "{\"payload\": \"text\"}\n",
        " {\"payload_base64\": \"AP8=\", \"type\": \"t\", \"headers\": [{\"name\": \"n\", \"value\": \"v\"}]}\r\n",
        "{\"payload_json\": {\"a\" : null}}",
    );
    let printed = import(&session, &["--json"], lines).output().unwrap();
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let first = printed["first_position"].as_u64().unwrap();
    let expected = json!({
        "published": 3, "skipped": 0, "first_position": first, "last_position": first + 2, "next_line": null,
    });
    assert_eq!(printed, expected);
    let expected = [
        json!({"payload": "text"}),
        json!({"payload_base64": "AP8=", "type": "t", "headers": [{"name": "n", "value": "v"}]}),
        json!({"payload": "{\"a\" : null}"}),
    ];
    assert_eq!(contents(&session, "q"), expected);
    let nothing = import(&session, &[], "").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&nothing.stdout), "published nothing\n");
}

#[test]
fn what_other_commands_print_can_be_imported() {
    let session = Session::with_queue(&["--max-deliveries", "1"]);
    session.publish_lines("a\nb\n");
    let peeked = session.stdout(&["peek", "q", "--json"]);
    session.run(&["consume", "q", "--count", "1", "--exec", "false"]).assert().success();
    let dead = session.stdout(&["dead", "ls", "q", "--json"]);
    let consumed = session.stdout(&["consume", "q", "--json"]);
    let exported = session.stdout(&["export", "q"]);
    // Exports behind each other, too.
    let lines = [peeked, dead, consumed, exported.clone(), exported].concat();
    session.run(&["dead", "purge", "q", "--all"]).assert().success();
    import(&session, &[], lines).assert().success();
    assert_eq!(consume(&session), "a\nb\na\nb\na\na\n");
}

#[test]
fn the_first_bad_line_ends_it_and_the_rest_can_be_had() {
    let good = |name: &str| format!("{{\"payload\":\"{name}\"}}\n");
    for (bad, code, what) in [
        (&b"{\"payload\":"[..], 1, "line 3, column 11: not valid JSON: found the end of the line"),
        (b"{\"payload\":\"a\"}}", 1, "line 3, column 16: not valid JSON: found '}'"),
        (b"", 1, "line 3, column 1: found an empty line, expected a JSON object"),
        (b"plain", 1, "line 3, column 1: found 'p', expected a JSON object"),
        (b"{\"payload\":\"\xff\"}", 1, "line 3, column 13: found the byte 0xff, expected UTF-8"),
        (b"{\"payload\":7}", 1, "line 3, column 12: invalid type: integer `7`, expected a string"),
        (
            b"{\"payload\":\"a\",\"tpye\":\"t\"}",
            1,
            "line 3, column 21: unknown field `tpye`, expected one of",
        ),
        (b"{\"payload_base64\":\"A*==\"}", 1, "found '*' as its character 2, expected base64"),
        (b"{\"payload_base64\":\"AAAAA\"}", 1, "found 5 characters, expected base64"),
        (b"{\"payload\":\"a\",\"payload_base64\":\"\"}", 1, "line 3, column 1: found more than one payload"),
        (b"{\"type\":\"t\"}", 1, "line 3, column 1: found no payload, expected"),
        (b"{\"position\":7,\"damaged\":true}", 1, "damaged when it was exported"),
        (
            b"{\"payload\":\"\",\"headers\":[{\"name\":\"\",\"value\":\"\"}]}",
            1,
            "line 3: a header's name is 0 bytes",
        ),
        (b"{\"ringway_export\":2}", 7, "line 3, column 19: found an export of version 2, expected 1"),
    ] {
        let session = Session::with_queue(&[]);
        let lines = [good("a").as_bytes(), good("b").as_bytes(), bad, b"\n", good("d").as_bytes()].concat();
        let failed = fails(import(&session, &["--json"], lines.clone()), code, what);
        let stderr = String::from_utf8_lossy(&failed.get_output().stderr).into_owned();
        assert!(stderr.contains("2 published before it: go on with --from-line 3\n"), "{stderr}");
        let printed: Value = serde_json::from_slice(&failed.get_output().stdout).unwrap();
        assert_eq!((&printed["published"], &printed["next_line"]), (&json!(2), &json!(3)));
        assert_eq!(consume(&session), "a\nb\n");
        // Once more from there fails in the same way; past it, the rest is had.
        fails(import(&session, &["--from-line", "3"], lines.clone()), code, "0 published before it");
        import(&session, &["--from-line", "4"], lines.clone()).assert().success();
        assert_eq!(consume(&session), "d\n");
        if code == 1 {
            let skipped = import(&session, &["--skip-bad"], lines).output().unwrap();
            assert!(skipped.status.success());
            let stderr = String::from_utf8_lossy(&skipped.stderr);
            assert!(stderr.contains(what) && stderr.ends_with("; skipped\n"), "{stderr}");
            let stdout = String::from_utf8_lossy(&skipped.stdout);
            assert!(stdout.ends_with("; 1 bad line skipped\n"), "{stdout}");
            assert_eq!(consume(&session), "a\nb\nd\n");
        } else {
            fails(import(&session, &["--skip-bad"], lines), code, what);
        }
    }
}

#[test]
fn messages_that_the_queue_does_not_take() {
    let session = Session::with_queue(&["--max-message", "1K"]);
    let long = |length| format!("{{\"payload\":\"{}\"}}\n", "x".repeat(length));
    let lines = [long(1024), long(1025), long(9 << 20), long(1)].concat();
    fails(import(&session, &[], lines.clone()), 1, "line 2: the message is 1025 bytes");
    assert_eq!(session.counts(), [1, 0, 0, 0]);
    fails(
        import(&session, &["--from-line", "3"], lines.clone()),
        1,
        "line 3, column 1: found more than 1,054,720 bytes",
    );
    let skipped = import(&session, &["--skip-bad", "--json"], lines).output().unwrap();
    let printed: Value = serde_json::from_slice(&skipped.stdout).unwrap();
    assert_eq!((&printed["published"], &printed["skipped"]), (&json!(2), &json!(2)));
    assert_eq!(session.counts(), [3, 0, 0, 0]);
}

#[test]
fn bad_lines_are_told_and_then_only_counted() {
    let session = Session::with_queue(&[]);
    let skipped = import(&session, &["--skip-bad", "--json"], "x\n".repeat(500)).output().unwrap();
    assert!(skipped.status.success());
    let printed: Value = serde_json::from_slice(&skipped.stdout).unwrap();
    assert_eq!((&printed["published"], &printed["skipped"]), (&json!(0), &json!(500)));
    assert_eq!(String::from_utf8_lossy(&skipped.stderr).lines().count(), 10);
}

#[test]
fn where_to_begin_must_be_there() {
    let session = Session::with_queue(&[]);
    let lines = "{\"payload\":\"a\"}\n{\"payload\":\"b\"}\n";
    let nothing = import(&session, &["--from-line", "3"], lines).output().unwrap();
    assert!(nothing.status.success(), "all of it was done before");
    fails(import(&session, &["--from-line", "4"], lines), 1, "--from-line 4: the input has only 2 lines");
    fails(session.run(&["import", "q", "/nonexistent"]), 1, "opening /nonexistent: No such file");
    fails(session.run(&["import", "q", "/"]), 1, "reading /: Is a directory");
    assert_eq!(session.counts(), [0; 4]);
}

#[test]
fn a_full_queue_is_waited_for_unless_it_should_not_be() {
    let session = Session::with_queue(&["--capacity", "1024"]);
    let lines: String = (0..3_000).map(|i| format!("{{\"payload\":\"{i}\"}}\n")).collect();
    fails(import(&session, &["--on-full", "fail"], lines.clone()), 4, "line 1025: the queue is full");
    session.run(&["consume", "q"]).assert().success();
    let timeout = ["--timeout", "20ms"];
    fails(
        import(&session, &timeout, lines.clone()),
        4,
        "1,024 published before it: go on with --from-line 1025",
    );
    session.run(&["consume", "q"]).assert().success();

    let file = session.path("lines");
    fs::write(&file, &lines).unwrap();
    let importing = session.start(&["import", "q", file.to_str().unwrap()]);
    let payloads = session.text(&["consume", "q", "--count", "3000", "--timeout", "50s"]);
    assert_eq!(importing.end(), (Some(0), String::new()));
    assert!(payloads.lines().map(|line| line.parse::<u32>().unwrap()).eq(0..3_000), "{payloads}");
}

#[test]
fn a_signal_ends_it_between_two_lines() {
    for (signal, code) in [(Signal::TERM, 1), (Signal::INT, 130)] {
        // Waiting for the rest of a line.
        let session = Session::with_queue(&["--capacity", "1024"]);
        let mut importing = session.start(&["import", "q"]);
        let stdin = importing.child.stdin.as_mut().unwrap();
        stdin.write_all(b"{\"payload\":\"a\"}\n{\"payload\":").unwrap();
        until("the whole line is in", || session.counts()[0] == 1);
        importing.signal(signal);
        let (ended, stderr) = importing.end();
        let told = "ringway: stopped by a signal; 1 published before it: go on with --from-line 2\n";
        assert_eq!((ended, stderr.as_str()), (Some(code), told));

        // Waiting for space.
        let lines: String = (0..1_500).map(|i| format!("{{\"payload\":\"{i}\"}}\n")).collect();
        let file = session.path("lines");
        fs::write(&file, lines).unwrap();
        let file = file.to_str().unwrap();
        let importing = session.start(&["import", "q", file]);
        until("the queue is full", || session.counts()[0] == 1_024);
        importing.signal(signal);
        let (ended, stderr) = importing.end();
        assert!(stderr.contains("1,023 published before it: go on with --from-line 1024\n"), "{stderr}");
        assert_eq!(ended, Some(code));
        let first = consume(&session);
        session.run(&["import", "q", file, "--from-line", "1024"]).assert().success();
        let payloads = first + &consume(&session);
        let payloads: Vec<_> = payloads.lines().collect();
        assert_eq!(payloads[0], "a");
        assert!(payloads[1..].iter().map(|line| line.parse::<u32>().unwrap()).eq(0..1_500));
    }
}

#[test]
fn what_cannot_be_printed_hides_nothing() {
    let session = Session::with_queue(&[]);
    let lines = "{\"payload\":\"a\"}\n";
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut importing = session.start_to(&["import", "q"], full);
    importing.child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let (code, stderr) = importing.end();
    assert_eq!(code, Some(9), "{stderr}");
    assert!(
        stderr.starts_with("ringway: writing to stdout: ") && stderr.contains("; published 1 message"),
        "{stderr}"
    );
    assert_eq!(consume(&session), "a\n");

    // A failure is not hidden by a reader of stdout that went away.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut importing = session.start_to(&["import", "q", "--json"], writer);
    importing.child.stdin.take().unwrap().write_all(b"x\n").unwrap();
    let (code, stderr) = importing.end();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("line 1, column 1"), "{stderr}");
}
