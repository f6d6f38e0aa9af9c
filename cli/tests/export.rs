//! `export`: what is in a queue, and nothing of it taken.

mod common;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Session, fails, until};
use ringway::{Lease, Store};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The lines that are exported: the header and the messages.
fn export(session: &Session, args: &[&str]) -> (Value, Vec<Value>) {
    let text = session.text(&[&["export", "q"], args].concat());
    lines(&text)
}

fn lines(text: &str) -> (Value, Vec<Value>) {
    let mut lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    (lines.next().expect("a header"), lines.collect())
}

fn payloads(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["payload"].as_str().expect("text")).collect()
}

#[test]
fn the_first_line_is_the_queue() {
    let options = ["--capacity", "2048", "--slot-size", "256", "--max-message", "64K", "--max-groups", "3"];
    let session = Session::with_queue(&options);
    let group = ["group", "add", "q", "g", "--order", "ordered", "--max-deliveries", "0", "--backoff", "2s"];
    session.run(&group).assert().success();
    let (header, messages) = export(&session, &[]);
    let default = json!({
        "name": "default", "order": "relaxed", "max_deliveries": 10,
        "backoff_ms": 100, "backoff_cap_ms": 60_000, "jitter_percent": 10,
    });
    let other = json!({
        "name": "g", "order": "ordered", "max_deliveries": 0,
        "backoff_ms": 2_000, "backoff_cap_ms": 60_000, "jitter_percent": 10,
    });
    let time = header["time_unix_ms"].as_u64().unwrap();
    assert!(time > 1_700_000_000_000, "{time}");
    let expected = json!({
        "ringway_export": 1, "queue": "q", "capacity": 2048, "slot_size": 256, "max_message": 65_536,
        "max_groups": 3, "groups": [default, other], "time_unix_ms": time,
    });
    assert_eq!(header, expected);
    assert!(messages.is_empty());
    let (header, _) = export(&session, &["--group", "g", "--group", "g", "--state", "dead"]);
    assert_eq!((&header["groups"], &header["states"]), (&json!([other]), &json!(["dead"])));
}

#[test]
fn every_state_is_shown_and_nothing_is_taken() {
    let session = Session::with_queue(&["--max-deliveries", "2"]);
    session.run(&["group", "add", "q", "g"]).assert().success();
    session.publish_lines("settled\nleased\nretrying\nrejected\nready\n");
    let store = Store::open(session.store()).unwrap();
    let queue = store.queue("q").unwrap();
    let consumer = queue.consumer("default").lease(Lease::UntilDeath).build().unwrap();
    consumer.receive().unwrap().ack().unwrap();
    let _held = consumer.receive().unwrap();
    consumer.receive().unwrap().nack_after(Duration::from_secs(600)).unwrap();
    consumer.receive().unwrap().reject("smells\n").unwrap();
    let before = session.json(&["stats", "q"]);
    let (_, messages) = export(&session, &[]);
    assert_eq!(payloads(&messages), ["settled", "leased", "retrying", "rejected", "ready"]);
    let ready = json!({"state": "ready", "failures": 0, "attempts": 0});
    let groups: Vec<_> = messages.iter().map(|message| message["groups"].clone()).collect();
    assert_eq!(
        groups,
        [
            json!({"g": ready}),
            json!({"default": {"state": "leased", "failures": 0, "attempts": 1}, "g": ready}),
            json!({"default": {"state": "retrying", "failures": 1, "attempts": 1}, "g": ready}),
            json!({
                "default": {
                    "state": "dead", "failures": groups[3]["default"]["failures"], "attempts": 1,
                    "reason": "rejected", "description": "smells\n",
                },
                "g": ready,
            }),
            json!({"default": ready, "g": ready}),
        ]
    );
    let positions: Vec<_> = messages.iter().map(|message| message["position"].as_u64().unwrap()).collect();
    assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "{positions:?}");
    // Of one group, and of some states.
    let (_, of_default) = export(&session, &["--group", "default"]);
    assert_eq!(payloads(&of_default), ["leased", "retrying", "rejected", "ready"]);
    assert_eq!(of_default[3]["groups"], json!({"default": ready}));
    let (_, some) = export(&session, &["--state", "dead", "--state", "leased"]);
    assert_eq!(payloads(&some), ["leased", "rejected"]);
    assert_eq!(session.json(&["stats", "q"]), before);
}

#[test]
fn payloads_are_text_or_base64_or_if_asked_for_json() {
    let session = Session::with_queue(&[]);
    let payloads: [&[u8]; 6] = [b"text\0", b"a\xff", b"", b"{\"n\": 1.50}", b" [1,\n 2]\n", b"{\"open\""];
    for payload in payloads {
        session.run(&["publish", "q"]).write_stdin(payload).assert().success();
    }
    let (_, messages) = export(&session, &[]);
    let shown = |message: &Value| {
        let keys = ["payload", "payload_base64", "payload_json"];
        let there: Vec<_> = keys.iter().filter(|key| message.get(**key).is_some()).collect();
        assert_eq!(there.len(), 1, "{message}");
        (there[0].to_string(), message[*there[0]].clone())
    };
    let text = |text: &str| ("payload".to_string(), json!(text));
    let base64 = ("payload_base64".to_string(), json!("Yf8="));
    let expected = [
        text("text\0"),
        base64.clone(),
        text(""),
        text("{\"n\": 1.50}"),
        text(" [1,\n 2]\n"),
        text("{\"open\""),
    ];
    assert_eq!(messages.iter().map(shown).collect::<Vec<_>>(), expected);
    let raw = session.text(&["export", "q", "--json-payloads"]);
    let (_, messages) = lines(&raw);
    let json = |json: Value| ("payload_json".to_string(), json);
    let expected =
        [text("text\0"), base64, text(""), json(json!({"n": 1.5})), json(json!([1, 2])), text("{\"open\"")];
    assert_eq!(messages.iter().map(shown).collect::<Vec<_>>(), expected);
    assert!(raw.contains("\"payload_json\":{\"n\": 1.50}}\n"), "digits were changed: {raw}");
}

#[test]
fn a_file_is_whole_or_as_it_was() {
    let session = Session::with_queue(&[]);
    session.publish_lines("a\nb\n");
    let file = session.path("out.jsonl");
    fs::write(&file, "before").unwrap();
    let link = session.path("link");
    symlink(&file, &link).unwrap();
    let printed = session.text(&["export", "q", "--output", link.to_str().unwrap()]);
    assert!(printed.starts_with("exported 2 messages to "), "{printed}");
    assert!(link.is_symlink());
    let whole = fs::read_to_string(&file).unwrap();
    assert_eq!(payloads(&lines(&whole).1), ["a", "b"]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let printed = session.json(&["export", "q", "--output", file.to_str().unwrap()]);
    assert_eq!(printed, json!({"exported": 2, "damaged": 0, "output": file}));

    fs::write(&file, "before").unwrap();
    let missing = ["export", "q", "--group", "x", "--output", file.to_str().unwrap()];
    fails(session.run(&missing), 3, "out.jsonl is as it was");
    assert_eq!(fs::read_to_string(&file).unwrap(), "before");
    let mut left: Vec<_> =
        fs::read_dir(session.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["link", "out.jsonl", "store"]);
}

#[test]
fn a_signal_leaves_no_half_of_a_file() {
    let session = Session::with_queue(&[]);
    session.publish_lines(&format!("{}\n", "x".repeat(1_000)).repeat(16_000));
    let file = session.path("out");
    for (signal, stopped) in [(Signal::TERM, 1), (Signal::INT, 130)] {
        fs::write(&file, "before").unwrap();
        let export = session.start(&["export", "q", "--output", file.to_str().unwrap()]);
        let names = || fs::read_dir(session.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        let begun = || names().any(|name| name.as_encoded_bytes().starts_with(b".ringway-"));
        let written = || fs::read(&file).unwrap() != b"before";
        until("the file is being written", || begun() || written());
        export.signal(signal);
        let (code, stderr) = export.end();
        // It may have been done already.
        match code {
            Some(0) => assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 16_001),
            code => {
                assert_eq!(code, Some(stopped), "{stderr}");
                assert_eq!(fs::read_to_string(&file).unwrap(), "before");
            }
        }
        assert_eq!(names().count(), 2);
    }
}

#[test]
fn where_no_file_can_be() {
    let session = Session::with_queue(&[]);
    let place = session.path("");
    fails(session.run(&["export", "q", "--output", "/dev/full"]), 2, "is not a file");
    fails(session.run(&["export", "q", "--output", place.to_str().unwrap()]), 2, "is not a file");
    let nowhere = session.path("none/out");
    fails(session.run(&["export", "q", "--output", nowhere.to_str().unwrap()]), 1, "No such file");
    let dangling = session.path("dangling");
    symlink("nothing", &dangling).unwrap();
    fails(session.run(&["export", "q", "--output", dangling.to_str().unwrap()]), 1, "No such file");
}

#[test]
fn a_full_disk_is_told() {
    let session = Session::with_queue(&[]);
    session.publish("precious");
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (code, stderr) = session.start_to(&["export", "q"], full).end();
    assert_eq!(code, Some(9));
    assert!(stderr.starts_with("ringway: writing to stdout: No space left"), "{stderr}");

    // A file system of 64 KiB, where it may be made.
    let options = ["--mount", "--propagation", "private", "sh", "-c"];
    let mount = session.path("mount");
    fs::create_dir(&mount).unwrap();
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(options).arg(script).arg(&mount).arg(assert_cmd::cargo::cargo_bin!("ringway"));
        command.env("RINGWAY_STORE", session.store()).stdin(Stdio::null()).output()
    };
    let make = r#"mount -t tmpfs -o size=64k none "$0""#;
    if !unshared(make).is_ok_and(|tried| tried.status.success()) {
        println!("skipped: the half of a_full_disk_is_told that mounts: not permitted here");
        return;
    }
    session.run(&["publish", "q"]).write_stdin("x".repeat(200_000)).assert().success();
    let export = r#"echo before > "$0/out"; "$1" export q --output "$0/out"; code=$?"#;
    let output = unshared(&format!(r#"{make}; {export}; ls -A "$0"; cat "$0/out"; exit $code"#)).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(9), "{stderr}");
    assert!(stderr.contains("No space left") && stderr.contains("/out is as it was"), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\nbefore\n");
}

#[test]
fn a_damaged_message_is_no_empty_one() {
    let session = Session::with_queue(&["--capacity", "1024", "--max-message", "1K"]);
    session.publish_lines("good\nneedle in the file\nalso good\n");
    let queue = session.store().join("queues/q");
    let bytes = fs::read(&queue).unwrap();
    let needle = bytes.windows(6).position(|window| window == b"needle").unwrap();
    // The word before a payload says how many of its bytes are headers.
    let file = OpenOptions::new().write(true).open(&queue).unwrap();
    file.write_all_at(&u64::MAX.to_le_bytes(), needle as u64 - 8).unwrap();
    let failed = fails(session.run(&["export", "q"]), 7, "has damaged 1 of 3 messages");
    let (_, messages) = lines(&String::from_utf8(failed.get_output().stdout.clone()).unwrap());
    assert_eq!((&messages[1]["damaged"], messages[1].get("payload")), (&json!(true), None));
    assert_eq!((&messages[2]["payload"], messages[2].get("damaged")), (&json!("also good"), None));
}
