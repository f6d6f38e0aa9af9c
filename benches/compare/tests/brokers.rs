//! Brokers, a few messages each: nothing is lost, doubled or damaged, and nothing is left behind.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs the comparison in a moment, with durable data in `place`.
fn compare(only: &str, place: &Path) -> (Output, Value) {
    let json = place.join("rows.json");
    let output = Command::new(env!("CARGO_BIN_EXE_ringway-compare"))
        .args(["brokers", "--quick", "--only", only, "--json"])
        .arg(&json)
        .env("RINGWAY_COMPARE_DISK", place)
        .output()
        .expect("the comparison starts");
    let rows = std::fs::read(&json).ok().and_then(|text| serde_json::from_slice(&text).ok());
    (output, rows.unwrap_or(Value::Null))
}

/// The rows of a peer, each measured and without a fault, or all skipped because it is not installed.
fn measured(only: &str, expected: usize) {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (output, json) = compare(only, place.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left = std::fs::read_dir(&place).expect("the directory").count();
    assert_eq!(left, 1, "only the rows, and none of the servers' data");
    let rows = json["results"].as_array().expect("rows");
    assert_eq!(rows.len(), expected, "{json:#}");
    for row in rows {
        if row["outcome"] == "skipped" {
            assert!(
                row["reason"].as_str().is_some_and(|reason| reason.contains("apt-get install")),
                "{row:#}"
            );
            continue;
        }
        assert_eq!(row["outcome"], "measured", "{row:#}");
        assert_eq!(
            (&row["lost"], &row["duplicated"], &row["torn"]),
            (&0.into(), &0.into(), &0.into()),
            "{row:#}"
        );
        let figure = if row["what"] == "throughput" { "msgs_per_s" } else { "p50_ns" };
        assert!(row[figure]["median"].as_f64().is_some_and(|median| median > 0.0), "{row:#}");
    }
}

/// For each of two payloads: streams of two batches, and two latencies at two paces.
#[test]
fn ringway() {
    measured("ringway", 2 * (2 + 4));
}

/// For each of two settings and two payloads: a stream and two latencies.
#[test]
fn sqlite() {
    measured("sqlite", 2 * 2 * 3);
}

#[test]
fn beanstalkd() {
    measured("beanstalkd", 2 * 2 * 3);
}
