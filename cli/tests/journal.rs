//! Durable stores by the command: what a power cut leaves, looking into the journal, and repairing it.

mod common;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use common::{Session, fails, until};
use predicates::str::contains;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A durable store with the queue `q`, its journal on a disk.
struct Shop {
    session: Session,
    disk: TempDir,
}

impl Shop {
    fn new() -> Shop {
        let shop = Shop { session: Session::new(), disk: TempDir::new().unwrap() };
        shop.create("q").assert().success();
        shop
    }

    /// `ringway create` of a queue in this store.
    fn create(&self, queue: &str) -> Command {
        let mut command = self.session.run(&["create", queue, "--durable", self.dir().to_str().unwrap()]);
        command.arg("--store").arg(self.session.store());
        command.args(["--segment-size", "256K", "--max-message", "64K", "--capacity", "1024"]);
        command
    }

    fn dir(&self) -> PathBuf {
        self.disk.path().join("shop")
    }

    /// `ringway` with this store, by its durable directory.
    fn run(&self, args: &[&str]) -> Command {
        let mut command = self.session.run(args);
        command.env("RINGWAY_STORE", self.dir());
        command
    }

    fn text(&self, args: &[&str]) -> String {
        let output = self.run(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && stderr.is_empty(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn rows(&self, args: &[&str]) -> Vec<Value> {
        let text = self.text(&[args, &["--json"]].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn json(&self, args: &[&str]) -> Value {
        let mut rows = self.rows(args);
        assert_eq!(rows.len(), 1, "{args:?}");
        rows.remove(0)
    }

    /// Publishes each, and waits for it, so that each is in a batch of its own.
    fn publish(&self, messages: &[&str]) {
        for message in messages {
            self.run(&["publish", "q", message, "--confirm"]).assert().success();
        }
    }

    /// As a reboot does. No process may be using the store.
    fn take_rings_away(&self) {
        fs::remove_dir_all(self.session.store()).unwrap();
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.dir().join(format!("{number:016x}.log"))
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Flips a byte of this text in the file.
fn damage(path: &Path, text: &str) {
    let bytes = fs::read(path).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("the text");
    open(path).write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
}

#[test]
fn confirmed_messages_outlive_a_reboot() {
    let shop = Shop::new();
    shop.publish(&["one", "two"]);
    assert_eq!(shop.json(&["publish", "q", "three", "--confirm"])["confirmed"], true);
    assert_eq!(shop.text(&["consume", "q", "--count", "1", "--ack-durable"]), "one\n");
    shop.take_rings_away();
    assert_eq!(shop.text(&["consume", "q", "--count", "1", "--exec", "cat", "--ack-durable"]), "two");
    shop.take_rings_away();
    assert_eq!(shop.text(&["consume", "q"]), "three\n");
    let info = shop.json(&["info"]);
    assert_eq!(info["store"], json!(shop.session.store()), "the rings are where they were");
    assert_eq!(info["journal"]["options"]["level"], "group_commit");
}

#[test]
fn the_journal_is_listed_dumped_and_verified() {
    let shop = Shop::new();
    shop.create("other").assert().success();
    shop.publish(&["one", "two", "three"]);
    shop.run(&["publish", "q", "--confirm"]).write_stdin(&b"\xff\x00"[..]).assert().success();
    shop.run(&["publish", "other", "x", "--confirm"]).assert().success();
    shop.run(&["consume", "q", "--count", "2", "--ack-durable"]).assert().success();

    let ls = shop.json(&["journal", "ls"]);
    assert_eq!((&ls["segments"][0]["number"], &ls["segment_len"]), (&json!(1), &json!(256 << 10)));
    assert_eq!(ls["torn"], Value::Null);
    assert!(ls["batches"].as_u64() >= Some(5) && ls["records"].as_u64() > ls["batches"].as_u64(), "{ls}");
    assert!(shop.text(&["journal", "ls"]).contains("0000000000000001.log"));

    let all = shop.rows(&["journal", "dump"]);
    assert_eq!(all.len() as u64, ls["records"].as_u64().unwrap());
    let lsns: Vec<u64> = all.iter().map(|row| row["lsn"].as_u64().unwrap()).collect();
    assert!(lsns.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{lsns:?}");
    assert_eq!(all[0]["kind"], "roster");
    let of = ["journal", "dump", "--queue", "q", "--kind", "message", "--payload"];
    let messages = shop.rows(&of);
    let texts: Vec<_> = messages.iter().map(|row| row["message"]["payload"].as_str()).collect();
    assert_eq!(texts, [Some("one"), Some("two"), Some("three"), None]);
    assert_eq!(messages[3]["message"]["payload_base64"], "/wA=");
    assert!(messages.iter().all(|row| row["queue"] == "q" && row["kind"] == "message"));
    let from = messages[1]["lsn"].to_string();
    let some = shop.rows(&[&of[..], &["--from", &from, "--limit", "2"]].concat());
    assert_eq!(some, messages[1..3]);
    let settled = shop.rows(&["journal", "dump", "--kind", "settled", "--kind", "state", "--queue", "q"]);
    assert!(settled.iter().all(|row| row["what"].as_str().unwrap().starts_with("group default: ")));
    assert!(!settled.is_empty());
    let table = shop.text(&of);
    assert_eq!(table.lines().count(), 5);
    assert!(table.contains(": three\n") && table.contains("base64 /wA="), "{table}");

    assert_eq!(shop.json(&["journal", "verify"])["damage"], Value::Null);
    assert!(shop.text(&["journal", "verify"]).starts_with("whole: "));
    // By the rings' directory, or a path that is given.
    let by_rings = shop.session.json(&["journal", "ls"]);
    assert_eq!((&by_rings["dir"], &by_rings["segments"]), (&ls["dir"], &ls["segments"]));
    let by_path = shop.session.json(&["journal", "ls", shop.dir().to_str().unwrap()]);
    assert_eq!(by_path["records"], by_rings["records"]);
}

#[test]
fn what_has_no_journal_says_so() {
    let session = Session::with_queue(&[]);
    session.publish("x");
    for args in
        [&["journal", "ls"][..], &["journal", "dump"], &["journal", "verify"], &["repair", "--journal"]]
    {
        fails(session.run(args), 2, "is volatile");
    }
    fails(session.run(&["consume", "q", "--ack-durable"]), 2, "is volatile");
    fails(session.run(&["publish", "q", "y", "--confirm"]), 2, "is volatile");
    let peeked = session.json_lines(&["peek", "q"]);
    assert_eq!((peeked.len(), &peeked[0]["failures"]), (1, &json!(0)), "nothing was done");
    let missing = session.path("missing");
    let missing = missing.to_str().unwrap();
    fails(session.run(&["journal", "ls", missing]), 3, "no store at ");
    fails(session.run(&["repair", "--journal", "--store", missing]), 3, "no store at ");
    let empty = session.path("");
    fails(session.run(&["journal", "verify", empty.to_str().unwrap()]), 3, "is not a durable store");
    for args in [&["repair", "--yes"][..], &["repair", "--dry-run"], &["journal"]] {
        session.run(args).assert().code(2);
    }
}

#[test]
fn a_damaged_byte_is_found_and_cut_off_when_that_was_meant() {
    let shop = Shop::new();
    shop.publish(&["first", "second", "third", "fourth"]);
    damage(&shop.segment(1), "third");
    let found = fails(shop.run(&["journal", "verify", "--json"]), 7, "is damaged at offset ");
    let report: Value = serde_json::from_slice(&found.get_output().stdout).unwrap();
    let damage = &report["damage"];
    assert_eq!(damage["segment"], 1);
    assert!(damage["offset"].as_u64() >= Some(4096) && damage["found"].is_string(), "{report}");
    assert!(damage["last_lost"].as_u64() >= damage["first_lost"].as_u64(), "{report}");
    let dumped = shop.run(&["journal", "dump", "--kind", "message", "--payload"]).assert().code(7);
    let dumped = String::from_utf8_lossy(&dumped.get_output().stdout).into_owned();
    assert!(dumped.contains("second") && !dumped.contains("fourth"), "{dumped}");

    // As long as the rings are there nothing is lost.
    fails(shop.run(&["repair", "--journal", "--yes"]), 6, "have all its messages");
    shop.take_rings_away();
    fails(shop.run(&["ls"]), 7, "ringway repair --journal");
    let before = fs::read(shop.segment(1)).unwrap();
    let told = shop.text(&["repair", "--journal", "--dry-run"]);
    assert!(told.contains("lost: records "), "{told}");
    assert_eq!(shop.json(&["repair", "--journal", "--dry-run"])["done"], false);
    let refused = fails(shop.run(&["repair", "--journal"]), 2, "--yes");
    assert!(String::from_utf8_lossy(&refused.get_output().stdout).contains("lost: records "));
    assert_eq!(fs::read(shop.segment(1)).unwrap(), before, "nothing was done yet");
    let done = shop.json(&["repair", "--journal", "--yes"]);
    assert_eq!(done["done"], true);
    assert!(done["damage"]["readable_records"].as_u64() >= Some(1), "{done}");
    assert!(shop.text(&["journal", "verify"]).starts_with("whole: "));
    assert!(shop.text(&["repair", "--journal"]).contains("nothing to repair"));
    assert_eq!(shop.text(&["consume", "q"]), "first\nsecond\n");
    shop.publish(&["later"]);
    shop.take_rings_away();
    assert_eq!(shop.text(&["consume", "q"]), "later\n");
}

#[test]
fn a_torn_end_is_no_damage() {
    let shop = Shop::new();
    shop.publish(&["whole", "torn"]);
    let end = shop.json(&["journal", "ls"])["segments"][0]["end"].as_u64().unwrap();
    shop.take_rings_away();
    // The COMMIT of the last batch did not get to the disk.
    open(&shop.segment(1)).write_all_at(&[0; 64], end - 64).unwrap();
    let verified = shop.json(&["journal", "verify"]);
    assert!(verified["torn"].as_str().is_some_and(|torn| torn.contains("segment ")), "{verified}");
    assert!(shop.text(&["journal", "ls"]).contains("torn end: "));
    assert_eq!(shop.text(&["consume", "q"]), "whole\n");
    shop.publish(&["next"]);
    assert_eq!(shop.json(&["journal", "verify"])["torn"], Value::Null);
    shop.take_rings_away();
    assert_eq!(shop.text(&["consume", "q"]), "next\n");
}

#[test]
fn segments_of_another_store_or_version_are_refused() {
    let shop = Shop::new();
    let other = Shop::new();
    shop.publish(&["mine"]);
    shop.take_rings_away();
    fs::copy(other.segment(1), shop.segment(2)).unwrap();
    for args in [&["ls"][..], &["journal", "verify"], &["repair", "--journal", "--yes"]] {
        fails(shop.run(args), 7, "it belongs to store ");
    }
    fs::remove_file(shop.segment(2)).unwrap();
    let version = open(&shop.segment(1));
    version.write_all_at(&[9], 12).unwrap();
    for args in [&["ls"][..], &["journal", "verify"], &["repair", "--journal", "--yes"]] {
        fails(shop.run(args), 7, "has journal version 9");
    }
    version.write_all_at(&[1], 12).unwrap();
    assert_eq!(shop.text(&["consume", "q"]), "mine\n");
}

#[test]
fn there_is_one_store_in_a_directory() {
    let shop = Shop::new();
    let dir = shop.dir();
    let elsewhere = shop.session.path("elsewhere");
    let again = |extra: &[&str]| {
        let mut command = shop.session.run(&["create", "r", "--durable", dir.to_str().unwrap()]);
        command.args(extra);
        command
    };
    fails(again(&["--store", elsewhere.to_str().unwrap()]), 2, "with its rings in");
    fails(again(&["--level", "os"]), 2, "with the level group_commit");
    again(&["--max-message", "64K"]).assert().success();
    assert_eq!(shop.text(&["ls"]), "q\nr\n");
    // Its identity in another directory makes no second store.
    let copy = shop.disk.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    fails(shop.session.run(&["ls", "--store", copy.to_str().unwrap()]), 7, "journal in");
    shop.session.run(&["journal", "verify", copy.to_str().unwrap()]).assert().success();
    fails(shop.session.run(&["rm", "--all", "--yes", "--store", copy.to_str().unwrap()]), 7, "journal in");
    assert_eq!(shop.text(&["ls"]), "q\nr\n");
}

#[test]
fn a_store_goes_with_its_journal_when_nobody_uses_it() {
    let shop = Shop::new();
    let follower = shop.session.start(&["consume", "q", "--follow"]);
    until("the consumer is there", || shop.session.group()["consumers"] == 1);
    fails(shop.run(&["rm", "--all", "--yes"]), 6, "is attached");
    fails(shop.run(&["repair", "--journal"]), 6, "is attached");
    drop(follower);
    shop.run(&["rm", "--all"]).assert().code(2);
    assert!(shop.dir().exists());
    shop.run(&["rm", "--all", "--yes"]).assert().success().stdout(contains("removed"));
    assert!(!shop.dir().exists() && !shop.session.store().exists());
    fails(shop.run(&["ls"]), 3, "no store at ");
}

#[test]
fn when_the_disk_failed_the_store_is_made_anew_from_what_it_has() {
    let shop = Shop::new();
    shop.publish(&["safe"]);
    // Where the journal's words of the control file have the error (docs/FORMAT.md).
    let control = fs::read(shop.session.store().join("control")).unwrap();
    let level = journal_words(&control);
    open(&shop.session.store().join("control")).write_all_at(&5_u64.to_le_bytes(), level + 256).unwrap();
    assert!(shop.json(&["info"])["journal"]["failed"].is_string());
    fails(shop.run(&["publish", "q", "x", "--confirm"]), 1, "journal failed");
    let told = shop.text(&["repair", "--journal", "--dry-run"]);
    assert!(told.contains("the disk failed (Input/output error"), "{told}");
    assert!(shop.session.store().exists());
    fails(shop.run(&["repair", "--journal"]), 2, "--yes");
    shop.run(&["repair", "--journal", "--yes"]).assert().success();
    assert!(!shop.session.store().exists());
    assert_eq!(shop.json(&["info"])["journal"]["failed"], Value::Null);
    assert!(shop.text(&["consume", "q"]).starts_with("safe\n"));
}

/// Where they are in the control file: the level 1, the segments' length, and what is not used is 0.
fn journal_words(control: &[u8]) -> u64 {
    let expected = [1_u64, 0, 0, 256 << 10, 0, 0, 0, 0].map(u64::to_le_bytes).concat();
    control.windows(expected.len()).position(|window| window == expected).expect("the journal's words") as u64
}
