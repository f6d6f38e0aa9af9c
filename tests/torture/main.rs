//! The kill harness: processes are killed and stopped at random moments while they publish, receive
//! and settle, and a [history checker](history) that knows nothing of the queue's insides judges
//! whether every promise was kept.
//!
//! ```text
//! cargo test --release --test torture -- --nocapture
//! ```
//!
//! `TORTURE_KILLS` and `TORTURE_SEED` set the size and the course of a run, `TORTURE_SECONDS` its
//! longest duration, `TORTURE_KIND` the one kind of scenario to run; recoveries that take longer than
//! `TORTURE_SLOW_MS` are told in full; with `TORTURE_DURABLE` the stores have a journal. The course of kills follows from
//! the seed; what the processes were doing at that moment does not.
//!
//! `TORTURE_MODE=redelivery` measures how long the message of a killed holder takes to the next
//! consumer, `TORTURE_MODE=stopped` what the others achieve while a producer is stopped in the middle
//! of a publish and a consumer while it holds a lease.
//!
//! When something is wrong, the store and the logs of all processes are left where the output says.

mod clock;
mod consuming;
mod fleet;
mod history;
mod job;
mod log;
mod payload;
mod plan;
mod producing;
mod redelivery;
mod report;
mod scenario;
mod stopped;
mod warden;
mod watch;
mod worker;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::unistd::alarm;
use tempfile::TempDir;

use crate::clock::Rng;
use crate::plan::{Kind, Plan};
use crate::report::Report;

/// Kills of a scenario: enough for the dead to meet, few enough to check at once.
const KILLS_EACH: u64 = 120;
/// Kills of a run that is told nothing else.
const KILLS: u64 = 600;
/// Seconds after which such a run has no more kills, however few there were: the machine may be crowded.
const SECONDS: u64 = 12;
/// Seconds after which a scenario that hangs in the harness itself is given up.
const HANGING: u32 = 120;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, job] = &arguments[..]
        && flag == fleet::WORKER
    {
        return match serde_json::from_str(job) {
            Ok(job) => ExitCode::from(worker::run(job) as u8),
            Err(_) => ExitCode::from(2),
        };
    }
    // As the standard harness does: a name that is not this test's own leaves it out.
    let asked_for = |name: &String| name.starts_with('-') || "torture".contains(name.as_str());
    if !arguments.iter().all(asked_for) || arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let done = match env::var("TORTURE_MODE").as_deref() {
        Err(_) | Ok("kills") => kills(),
        Ok("redelivery") => redelivery::run(number("TORTURE_KILLS", 1000), seed()),
        Ok("stopped") => stopped::run(number("TORTURE_ROUNDS", 5)),
        Ok(other) => Err(format!("TORTURE_MODE={other}: expected kills, redelivery or stopped")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("torture: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn seed() -> u64 {
    number("TORTURE_SEED", clock::now() % 1_000_000_000)
}

/// A directory of its own in memory.
pub(crate) fn directory() -> Result<TempDir, String> {
    let made = tempfile::Builder::new().prefix("ringway-torture-").tempdir_in("/dev/shm");
    made.map_err(|error| format!("making a directory in /dev/shm: {error}"))
}

/// Scenario after scenario, until there were enough kills.
fn kills() -> Result<bool, String> {
    let wanted = number("TORTURE_KILLS", KILLS);
    let limit = if env::var_os("TORTURE_KILLS").is_some() { 1_000_000 } else { SECONDS };
    let last = Instant::now() + Duration::from_secs(number("TORTURE_SECONDS", limit));
    let only = env::var("TORTURE_KIND").ok();
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| only.as_ref().is_none_or(|only| format!("{kind:?}").eq_ignore_ascii_case(only)))
        .collect();
    if kinds.is_empty() {
        return Err(format!("TORTURE_KIND={}: expected one of {:?}", only.unwrap_or_default(), Kind::ALL));
    }
    // The moments of kills are microseconds apart.
    let _ = prctl::set_timerslack(1_000);
    let seed = seed();
    let mut rng = Rng::new(seed);
    let mut report = Report::new(seed, number("TORTURE_SLOW_MS", 1_000_000) * 1_000_000);
    let mut failed: Vec<PathBuf> = Vec::new();
    for kind in kinds.iter().cycle() {
        let missing = wanted.saturating_sub(report.kills);
        if missing == 0 || Instant::now() > last || failed.len() > 2 {
            break;
        }
        let directory = directory()?;
        let mut own = Rng::new(rng.next());
        let plan = Plan::new(*kind, &mut own);
        let title = format!("seed {seed}, {:?}", plan.kind);
        alarm::set(HANGING);
        let outcome = scenario::run(plan, (missing.min(KILLS_EACH), last), own, directory.path());
        alarm::cancel();
        let good = outcome.as_ref().is_ok_and(|outcome| report.add(&title, outcome));
        if !good {
            failed.push(directory.keep());
        }
        outcome.map_err(|error| format!("{title}: {error}; see {:?}", failed.last()))?;
    }
    println!("TORTURE {}", report.line());
    for path in &failed {
        println!("torture: store and logs are left in {}", path.display());
    }
    Ok(report.clean())
}
