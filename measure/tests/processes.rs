//! Forked processes, their start line and the limits. A program with one thread, since only such can fork.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use ringway_measure::{Child, Error, Gate, Latency, Tally, id, join_all, limits, now_ns, spawn};

const LONG: Duration = Duration::from_secs(60);

fn main() {
    let tests: [(&str, fn()); 8] = [
        ("results_come_back", results_come_back),
        ("a_panic_is_told", a_panic_is_told),
        ("a_death_is_told", a_death_is_told),
        ("one_that_hangs_is_killed", one_that_hangs_is_killed),
        ("the_first_error_ends_all", the_first_error_ends_all),
        ("all_start_together", all_start_together),
        ("threads_cannot_fork", threads_cannot_fork),
        ("limits_are_measured", limits_are_measured),
    ];
    for (name, test) in tests {
        test();
        println!("{name}: ok");
    }
}

fn is_gone(pid: u32) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

fn results_come_back() {
    let child: Child<(String, Vec<u64>)> =
        spawn(|| Ok(("a".repeat(200_000), vec![u64::MAX]))).expect("a process");
    let (text, numbers) = child.join(LONG).expect("its result");
    assert_eq!((text.len(), &numbers[..]), (200_000, &[u64::MAX][..]));
    let child = spawn::<u8, _>(|| Err(Error::new("no luck").about("today"))).expect("a process");
    assert_eq!(child.join(LONG).expect_err("its error").to_string(), "today: no luck");
}

fn a_panic_is_told() {
    let child = spawn::<u8, _>(|| panic!("on {}", "purpose")).expect("a process");
    let error = child.join(LONG).expect_err("its panic").to_string();
    assert!(error.contains("on purpose") && error.contains("processes.rs"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

fn a_death_is_told() {
    let child = spawn::<u8, _>(|| std::process::abort()).expect("a process");
    let pid = child.pid();
    let error = child.join(LONG).expect_err("its death").to_string();
    assert!(error.contains("SIGABRT"), "{error}");
    assert!(is_gone(pid), "it was reaped");
    let child = spawn::<u8, _>(|| std::process::exit(0)).expect("a process");
    child.join(LONG).expect_err("it said nothing");
}

fn one_that_hangs_is_killed() {
    let hang = || loop {
        std::thread::park();
    };
    let child = spawn::<u8, _>(hang).expect("a process");
    let pid = child.pid();
    assert!(!is_gone(pid));
    let error = child.join(Duration::from_millis(10)).expect_err("it hangs").to_string();
    assert!(error.contains("has not ended within"), "{error}");
    assert!(is_gone(pid));
    let child = spawn::<u8, _>(hang).expect("a process");
    let pid = child.pid();
    drop(child);
    assert!(is_gone(pid));
}

fn the_first_error_ends_all() {
    let hang = || loop {
        std::thread::park();
    };
    let children = vec![
        spawn::<u8, _>(hang).expect("a process"),
        spawn(|| Err(Error::new("the second"))).expect("a process"),
    ];
    let pids: Vec<_> = children.iter().map(Child::pid).collect();
    let start = Instant::now();
    let error = join_all(children, LONG, || Ok(())).expect_err("the second fails");
    assert_eq!(error.to_string(), "the second");
    assert!(start.elapsed() < LONG, "the first was not waited for");
    assert!(pids.into_iter().all(is_gone));
    let error = join_all(vec![spawn::<u8, _>(hang).expect("a process")], LONG, || Err(Error::new("enough")));
    assert_eq!(error.expect_err("told to end").to_string(), "enough");
    let three = (0..3).map(|n| spawn(move || Ok(n)).expect("a process")).collect();
    assert_eq!(join_all(three, LONG, || Ok(())).expect("results"), [0, 1, 2]);
}

fn all_start_together() {
    let gate = Gate::new(3).expect("a gate");
    assert_eq!(gate.started(), None);
    let children = (0..3).map(|n| {
        let gate = &gate;
        spawn(move || {
            let arrived = now_ns();
            gate.word(0).fetch_add(1 << n, Relaxed);
            gate.word(1 + n).store(7, Release);
            let start = gate.arrive();
            assert_eq!(gate.word(0).load(Relaxed), 0b111, "nobody starts before all are there");
            while !gate.stopped() {
                std::thread::yield_now();
            }
            let mut tally = Tally::new(3);
            tally.add(id(n, 0));
            let mut latency = Latency::new();
            latency.record(start - arrived);
            Ok((start, tally, latency))
        })
        .expect("a process")
    });
    let children = children.collect();
    let go_on = || {
        if gate.started().is_some() {
            gate.stop();
        }
        Ok(())
    };
    let results = join_all(children, LONG, go_on).expect("all of them");
    let start = gate.started().expect("it is open");
    let mut tally = Tally::new(3);
    for (started, seen, latency) in &results {
        assert_eq!((*started, latency.count()), (start, 1));
        tally.merge(seen);
    }
    assert!(tally.faults(&Tally::of_published(&[1, 1, 1])).none());
    assert_eq!(gate.word(3).load(Acquire), 7);
}

fn threads_cannot_fork() {
    let (send, receive) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || receive.recv());
    let error = spawn(|| Ok(0_u8)).expect_err("two threads");
    assert!(error.to_string().contains("2 threads"), "{error}");
    drop(send);
    let _ = thread.join();
}

fn limits_are_measured() {
    assert!(limits::one_line(100).expect("a figure") > 0.0);
    assert!(limits::two_lines(100).expect("a figure") > 0.0);
    assert!(limits::clock(100) > 0.0);
    assert!(limits::memcpy(4096, 1 << 16, 1 << 20) > 0.0);
    assert!(limits::futex_wake(20, Duration::from_millis(1)).expect("a figure").count() > 0);
    let dir = std::env::temp_dir();
    assert_eq!(limits::fdatasync(&dir, 4096, 3).expect("a figure").count(), 3);
    assert!(limits::fdatasync(std::path::Path::new("/nowhere"), 4096, 3).is_err());
}
