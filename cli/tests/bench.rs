//! Measuring: that everything is measured and counted. How fast it was is nobody's business here.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{Session, fails, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Short runs: few messages, each case once.
fn short(args: &[&str]) -> Vec<String> {
    let args = ["bench", "--runs", "1"].iter().chain(args);
    args.map(|arg| (*arg).to_owned()).collect()
}

fn report(args: &[&str]) -> Value {
    let session = Session::new();
    let args = short(args);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let report = session.json(&args);
    assert!(!session.store().exists(), "{args:?} made a store in the place of the user's");
    let limit = report["limits"]["two_line_round_trip_ns"].as_f64();
    assert!(limit.is_some_and(|ns| ns > 0.0), "{report}");
    for key in ["cpu", "kernel", "memory_bytes", "shm", "cpus"] {
        assert!(!report["machine"][key].is_null(), "no {key} in {report}");
    }
    for key in ["version", "commit", "profile", "pinning"] {
        assert!(report[key].as_str().is_some_and(|text| !text.is_empty()), "no {key} in {report}");
    }
    for result in report["results"].as_array().expect("an array") {
        check(result);
    }
    report
}

/// What every result has.
fn check(result: &Value) {
    for key in ["lost", "duplicated", "torn", "out_of_order", "lease_lost"] {
        assert_eq!(result[key], 0, "{key} in {result}");
    }
    for key in ["producers", "consumers", "groups", "payload", "batch", "capacity", "slot_size"] {
        assert!(result[key].as_u64().is_some_and(|count| count > 0), "no {key} in {result}");
    }
    for key in ["what", "role", "wait", "durability", "touch"] {
        assert!(result[key].is_string(), "no {key} in {result}");
    }
    let positive = |value: &Value| value.as_f64().is_some_and(|value| value > 0.0);
    assert!(positive(&result["ratio_to_limit"]), "{result}");
    if result["what"] == "throughput" {
        let rates = ["median", "min", "max"].map(|key| &result["msgs_per_s"][key]);
        assert!(rates.iter().all(|rate| positive(rate)), "{result}");
        assert!(result["p50_ns"].is_null(), "{result}");
        return;
    }
    assert!(result["msgs_per_s"].is_null(), "{result}");
    let keys = ["p50_ns", "p90_ns", "p99_ns", "p99_9_ns", "p99_99_ns", "max_ns"];
    let percentiles = keys.map(|key| result[key].as_f64().expect(key));
    assert!(percentiles[0] > 0.0 && percentiles.is_sorted(), "{result}");
}

/// These values of every result.
fn values(report: &Value, keys: &[&str]) -> Vec<Vec<Value>> {
    let results = report["results"].as_array().expect("an array");
    results.iter().map(|result| keys.iter().map(|key| result[*key].clone()).collect()).collect()
}

#[test]
fn latencies_are_measured_there_and_back_and_one_way() {
    let report = report(&["latency", "--payload", "48,1K", "--messages", "2000"]);
    let mut expected = Vec::new();
    for what in ["latency.round_trip", "latency.one_way"] {
        for (payload, slot) in [(48, 64), (1_024, 1_088)] {
            for role in ["exclusive", "shared"] {
                expected.push(vec![json!(what), json!(role), json!(payload), json!(slot)]);
            }
        }
    }
    assert_eq!(values(&report, &["what", "role", "payload", "slot_size"]), expected);
}

#[test]
fn an_open_loop_takes_as_long_as_its_messages_are_due() {
    let start = Instant::now();
    let args = ["latency", "--rate", "5000", "--messages", "1000", "--role", "shared", "--wait", "park"];
    let report = report(&args);
    // 1,100 messages of each case with the warm-up: they cannot be through before the last one is due.
    assert!(start.elapsed() >= Duration::from_millis(2 * 1_099 * 1_000 / 5_000), "{report}");
    assert_eq!(values(&report, &["rate", "wait"]), vec![vec![json!(5_000.0), json!("park")]; 2]);
}

#[test]
fn streams_are_counted_whatever_their_shape() {
    for (args, expected) in [
        (&["--batch", "16"][..], json!(["exclusive", 1, 1, 1, 16, false])),
        (&["--payload", "13", "--role", "shared"], json!(["shared", 1, 1, 1, 1, false])),
        (&["--producers", "3", "--consumers", "2", "--batch", "7"], json!(["shared", 3, 2, 1, 7, false])),
        (&["--groups", "3", "--consumers", "2"], json!(["shared", 1, 2, 3, 1, false])),
        (&["--payload", "5000", "--capacity", "1024", "--zero-copy"], json!(["exclusive", 1, 1, 1, 1, true])),
        (&["--role", "shared", "--lease", "10s", "--wait", "adaptive"], json!(["shared", 1, 1, 1, 1, false])),
        (
            &["--payload", "64K", "--touch", "pages", "--wait", "park"],
            json!(["exclusive", 1, 1, 1, 1, false]),
        ),
    ] {
        // Long messages are few.
        let messages = if args[0] == "--payload" { "2000" } else { "20000" };
        let report = report(&[&["throughput", "--messages", messages], args].concat());
        let keys = ["role", "producers", "consumers", "groups", "batch", "zero_copy"];
        assert_eq!(json!(values(&report, &keys)[0]), expected, "{args:?}");
    }
}

#[test]
fn a_stream_can_be_as_long_as_a_time() {
    let start = Instant::now();
    let report = report(&["throughput", "--seconds", "0.3", "--role", "shared"]);
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(values(&report, &["what"]), [[json!("throughput")]]);
}

#[test]
fn a_waiting_consumer_is_watched_and_woken() {
    let report = report(&["idle", "--seconds", "0.2", "--wakes", "20"]);
    assert_eq!(
        values(&report, &["what", "wait"]),
        [["idle", "park"], ["idle", "adaptive"]].map(|v| v.map(Value::from))
    );
    for result in report["results"].as_array().expect("an array") {
        assert!(result["cpu_percent"]["median"].is_number(), "{result}");
        assert!(result["ratio_to_futex_wake"].as_f64().is_some_and(|ratio| ratio > 0.0), "{result}");
    }
    assert!(report["limits"]["futex_wake"]["p50_ns"].is_number(), "{report}");
}

#[test]
fn the_work_of_a_killed_process_comes_back() {
    let report = report(&["recovery", "--capacity", "1024", "--wait", "adaptive,park"]);
    assert_eq!(
        values(&report, &["what", "wait", "capacity", "consumers"]),
        ["adaptive", "park"].map(|wait| vec![json!("recovery"), json!(wait), json!(1_024), json!(2)])
    );
    for result in report["results"].as_array().expect("an array") {
        let recovery = &result["recovery"];
        assert_eq!(recovery["in_flight"], 512, "{result}");
        for what in ["kill_to_free", "free_to_first", "free_to_all", "repair"] {
            let figures = ["p50_ns", "p99_ns", "max_ns"].map(|key| recovery[what][key].as_f64().expect(key));
            assert!(figures[0] > 0.0 && figures.is_sorted(), "{what} in {result}");
        }
        assert!(recovery["free_to_first"]["p50_ns"].as_f64() <= recovery["free_to_all"]["p50_ns"].as_f64());
        assert_eq!(recovery["free_to_first"]["p50_ns"], result["p50_ns"]);
    }
}

#[test]
fn limits_are_measured() {
    let session = Session::new();
    let disk = session.path("");
    let report = report(&["limits", "--messages", "1000", "--disk", disk.to_str().expect("UTF-8")]);
    let limits = &report["limits"];
    assert_eq!(report["results"], json!([]));
    assert!(limits["one_line_round_trip"]["median"].is_number(), "{limits}");
    assert!(limits["memcpy"].as_array().is_some_and(|rows| rows.len() == 3), "{limits}");
    for what in ["futex_wake", "fdatasync"] {
        assert!(limits[what]["p99_ns"].as_f64().is_some_and(|ns| ns > 0.0), "{limits}");
    }
    assert_eq!(fs::read_dir(disk).expect("a directory").count(), 0, "nothing is left on the disk");
}

#[test]
fn a_sweep_is_drawn() {
    let session = Session::new();
    let plot = session.path("sweep.svg");
    let args = short(&["sweep", "--over", "processes", "--messages", "5000", "--plot"]);
    let mut command = session.run(&args);
    let output = command.arg(&plot).output().expect("ringway runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).expect("UTF-8");
    for shape in ["1p1c", "8p1c", "1p8c", "8p8c"] {
        assert!(table.contains(shape), "no {shape} in {table}");
    }
    let svg = fs::read_to_string(&plot).expect("the drawing");
    well_formed(&svg);
    for text in ["Linux", "commit", "seed 1", "messages per second", "1 producer, N consumers"] {
        assert!(svg.contains(text), "no {text:?} in the drawing");
    }
    let left = fs::read_dir(session.path("")).expect("a directory").count();
    assert_eq!(left, 1, "there is the drawing and nothing else");
}

#[test]
fn latencies_are_drawn_over_nines() {
    let session = Session::new();
    let plot = session.path("latency.svg");
    fs::write(&plot, "an older one").expect("a file");
    let args = short(&["latency", "--only", "round-trip", "--messages", "2000", "--plot"]);
    session.run(&args).arg(&plot).assert().success();
    let svg = fs::read_to_string(&plot).expect("the drawing");
    well_formed(&svg);
    for text in ["99.9 %", "percentile", "latency", "round trip, exclusive, 64 bytes", "round trip, shared"] {
        assert!(svg.contains(text), "no {text:?} in the drawing");
    }
}

/// Every element is closed by its own end, and there is one outermost.
fn well_formed(svg: &str) {
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "not an SVG: {svg:.60}");
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').expect("each tag ends");
        assert!(!text.contains('&') || text.contains(';'), "a bare & in {text}");
        if tag.ends_with('/') || tag.starts_with(['!', '?']) {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed out of order");
        } else {
            open.push(tag.split_whitespace().next().expect("a name"));
            assert_eq!(open[0], "svg");
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
}

#[test]
fn the_same_seed_is_told_and_another_one_too() {
    let session = Session::new();
    let args = short(&["throughput", "--messages", "1000", "--seed", "77", "--role", "exclusive"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let table = session.text(&args);
    assert!(
        table.contains("seed 77") && table.contains("two-line ping-pong") && table.contains("1p1c"),
        "{table}"
    );
    assert_eq!(session.json(&args)["seed"], 77);
}

#[test]
fn what_cannot_be_measured_is_said_before_anything_is() {
    let session = Session::new();
    let missing = session.path("missing/plot.svg");
    let missing = missing.to_str().expect("UTF-8");
    let here = session.path("");
    let here = here.to_str().expect("UTF-8");
    for (args, code, with) in [
        (&["throughput", "--role", "exclusive", "--producers", "2"][..], 2, "use --role shared"),
        (&["throughput", "--role", "exclusive", "--consumers", "2"], 2, "use --role shared"),
        (&["sweep", "--role", "exclusive", "--over", "processes"], 2, "leave out"),
        (&["throughput", "--payload", "7"], 2, "--payload 8"),
        (&["throughput", "--payload", "2G"], 2, "at most 1,073,741,823 bytes"),
        (&["throughput", "--payload", "1M", "--capacity", "16777216"], 9, "smaller --capacity"),
        (&["throughput", "--capacity", "1000"], 2, "capacity"),
        (&["throughput", "--slot-size", "100"], 2, "slot_size"),
        (&["throughput", "--messages", "0"], 2, "--messages"),
        (&["throughput", "--messages", "99999999999999"], 2, "--messages"),
        (&["throughput", "--messages", "10", "--seconds", "1"], 2, "--seconds"),
        (&["throughput", "--producers", "65"], 2, "--producers"),
        (&["throughput", "--consumers", "64", "--groups", "64"], 2, "at most 512"),
        (&["throughput", "--producers", "64", "--wait", "spin"], 2, "--wait adaptive"),
        (&["throughput", "--batch", "0"], 2, "--batch"),
        (&["throughput", "--lease", "5s", "--zero-copy"], 2, "--lease"),
        (&["throughput", "--batch", "2", "--zero-copy"], 2, "--batch"),
        (&["throughput", "--durability", "eternal"], 2, "--durability"),
        (&["latency", "--rate", "0"], 2, "--rate"),
        (&["idle", "--seconds", "0"], 2, "--seconds"),
        (&["--runs", "0"], 2, "--runs"),
        (&["limits", "--plot", "limits.svg"], 2, "--plot"),
        (&["recovery", "--plot", "recovery.svg"], 2, "--plot"),
        (&["recovery", "--capacity", "1000"], 2, "capacity"),
        (&["recovery", "--capacity", "262144"], 2, "--capacity"),
        (&["latency", "--plot", missing], 1, "missing/plot.svg"),
        (&["latency", "--plot", here], 2, "directory"),
        (&["latency", "--dir", missing], 1, "missing/plot.svg"),
        (&["latency", "--store", here], 2, "--dir"),
        (&["limits", "--messages", "10", "--disk", missing], 1, "missing/plot.svg"),
    ] {
        fails(session.run(&[&["bench"], args].concat()), code, with);
    }
    assert_eq!(fs::read_dir(here).expect("a directory").count(), 0, "nothing is left behind");
}

#[test]
fn an_interrupt_ends_it_with_all_its_processes() {
    let session = Session::new();
    let place = session.path("");
    let place = place.to_str().expect("UTF-8");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 0)] {
        let args = ["bench", "throughput", "--seconds", "1h", "--wait", "park", "--dir", place];
        let running = session.start(&args);
        let children = || children_of(running.child.id());
        // Two ends of the stream, after the ping-pong, which also has two.
        until("the stream runs", || in_a_stream(place) && children().len() == 2);
        let children = children();
        running.signal(signal);
        let (ended, stderr) = running.end();
        assert_eq!((ended, stderr.as_str()), (Some(code), ""));
        for child in children {
            let child = Pid::from_raw(child).expect("a process id");
            assert!(kill_process(child, Signal::CONT).is_err(), "{child:?} outlives the command");
        }
        assert_eq!(fs::read_dir(place).expect("a directory").count(), 0, "nothing is left behind");
    }
}

fn children_of(pid: u32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().expect("a process id")).collect()
}

/// Whether there is a store with the queue of a stream, and messages in it.
fn in_a_stream(place: &str) -> bool {
    let entries = fs::read_dir(place).expect("a directory").flatten();
    entries.map(|entry| entry.path().join("store")).any(|store| {
        let Ok(store) = ringway::Store::open(&store) else { return false };
        let Ok(queue) = store.queue("stream") else { return false };
        queue.info().is_ok_and(|info| info.positions > 0)
    })
}

#[test]
fn the_standard_set_has_every_kind() {
    let report = report(&["all", "--messages", "1000"]);
    let found = values(&report, &["what", "role", "producers", "consumers", "groups", "payload", "batch"]);
    for expected in [
        json!(["latency.round_trip", "exclusive", 1, 1, 1, 48, 1]),
        json!(["latency.round_trip", "shared", 1, 1, 1, 64, 1]),
        json!(["throughput", "exclusive", 1, 1, 1, 64, 1]),
        json!(["throughput", "shared", 1, 1, 1, 64, 16]),
        json!(["throughput", "shared", 2, 2, 1, 64, 1]),
        json!(["throughput", "shared", 4, 4, 1, 64, 1]),
        json!(["throughput", "shared", 1, 1, 3, 64, 1]),
        json!(["throughput", "exclusive", 1, 1, 1, 1 << 20, 1]),
        json!(["idle", "shared", 1, 1, 1, 64, 1]),
        json!(["recovery", "shared", 1, 2, 1, 64, 1]),
    ] {
        assert!(found.iter().any(|values| json!(values) == expected), "no {expected}");
    }
    let copied = report["results"].as_array().expect("an array").iter();
    let copied = copied.filter(|result| result["payload"] == 1 << 20 && result["zero_copy"] == false);
    assert!(copied.clone().all(|result| result["ratio_to_memcpy"].is_number()));
    assert_eq!(copied.count(), 1);
}
