//! The command as it is called, with few messages: that it measures, loses nothing, and says what is wrong.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

fn compare(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-compare"));
    command.args(arguments).output().expect("the command can be started")
}

/// The rows of a quick run of these peers, after a look at the tables.
fn quick(only: &str, payload: &str) -> Vec<Value> {
    let dir = tempfile::tempdir().expect("a directory");
    let [json, markdown] = ["json", "md"].map(|kind| dir.path().join(kind));
    let paths = [&json, &markdown].map(|path| path.to_str().expect("a path that is text"));
    let output = compare(&[
        "memory",
        "--quick",
        "--only",
        only,
        "--payload",
        payload,
        "--json",
        paths[0],
        "--markdown",
        paths[1],
    ]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let section = fs::read_to_string(&markdown).expect("the section");
    assert!(section.starts_with("## Last full run\n\n1 round in "), "{section}");
    let report: Value = serde_json::from_slice(&fs::read(&json).expect("the JSON")).expect("JSON");
    assert!(report["limits"]["two_line_round_trip_ns"]["median"].as_f64().expect("a gauge") > 0.0);
    let rows = report["results"].as_array().expect("rows").clone();
    for row in &rows {
        let peer = row["peer"].as_str().expect("a name");
        assert!(out.contains(peer) && section.contains(&format!("| {peer}")), "{peer} is missing: {out}");
    }
    rows
}

/// Every workload that the peer is made for was measured, and nothing was lost, doubled or torn.
fn assert_sound(rows: &[Value], measured: usize) {
    for row in rows {
        let figure = if row["what"] == "throughput" { &row["msgs_per_s"] } else { &row["p50_ns"] };
        match row["outcome"].as_str() {
            Some("measured") => {
                assert!(figure["median"].as_f64().is_some_and(|value| value > 0.0), "{row:#}");
                assert_eq!([&row["lost"], &row["duplicated"], &row["torn"]], [0, 0, 0], "{row:#}");
            }
            outcome => assert_eq!(outcome, Some("cannot_do"), "{row:#}"),
        }
    }
    assert_eq!(rows.iter().filter(|row| row["outcome"] == "measured").count(), measured, "{rows:#?}");
}

#[test]
fn ringway_is_measured_in_every_workload() {
    let rows = quick("ringway", "64,1024,65536");
    // Of each payload: the round trips of two roles, the streams of a pair of both with and without batches,
    // and those of two and four pairs of the shared role.
    assert_sound(&rows, 3 * (2 + 4 + 4));
    let shared = rows.iter().find(|row| row["peer"] == "ringway shared").expect("the shared role");
    assert_eq!(shared["ringway_is_better_by"], 1.0);
}

#[test]
fn pipes_and_crossbeam_are_measured() {
    // Pipes of both kinds, the queue and the channel: four workloads each.
    assert_sound(&quick("Pipes,crossbeam", "64"), 16);
    // Pipes cannot keep long messages of several apart.
    assert_sound(&quick("pipes", "65536"), 4);
}

#[test]
fn pairs_are_measured_as_pairs() {
    // A round trip each, and a stream with and without batches.
    assert_sound(&quick("shaq spsc,rtrb,disruptor", "1024"), 3 * 3);
    assert_sound(&quick("iceoryx2", "64"), 2);
}

#[test]
fn what_cannot_be_is_told_in_a_line() {
    for (arguments, text) in [
        (&["memory", "--only", "kafka"][..], "no peer has \"kafka\" in its name"),
        (&["--payload", "100"], "expected 64, 1024 or 65536"),
        (&["--runs", "0"], "0 is not in 1..=99"),
        (&["disks"], "invalid value 'disks'"),
    ] {
        let output = compare(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(text), "{arguments:?}: {told}");
        assert!(!told.contains("panicked") && !told.contains("backtrace"), "{arguments:?}: {told}");
    }
}
