//! A store of one's own, and the command run against it.
// Each test file uses some of it.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use serde_json::Value;
use tempfile::TempDir;

/// No command of these tests takes this long unless it hangs.
const HANGS: Duration = Duration::from_secs(60);

pub(crate) struct Session {
    dir: TempDir,
}

impl Session {
    /// A place for a store; there is none yet.
    pub(crate) fn new() -> Session {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        Session { dir: dir.expect("a temporary directory") }
    }

    /// A store with the queue `q`.
    pub(crate) fn with_queue(options: &[&str]) -> Session {
        let session = Session::new();
        session.run(&["create", "q"]).args(options).assert().success();
        session
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// A path next to the store.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `ringway` with this store.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = assert_cmd::cargo::cargo_bin_cmd!("ringway");
        command.args(args).env("RINGWAY_STORE", self.store()).timeout(HANGS);
        command
    }

    /// `ringway` with this store, as a process to talk to.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        self.start_to(args, Stdio::piped())
    }

    /// The same, with this stdout.
    pub(crate) fn start_to(&self, args: &[&str], stdout: impl Into<Stdio>) -> Running {
        let child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("ringway"))
            .args(args)
            .env("RINGWAY_STORE", self.store())
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn();
        Running { child: child.expect("ringway starts") }
    }

    /// What it prints, which must be all there is.
    pub(crate) fn stdout(&self, args: &[&str]) -> Vec<u8> {
        let output = self.run(args).output().expect("ringway runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?} succeeded with words on stderr");
        output.stdout
    }

    pub(crate) fn text(&self, args: &[&str]) -> String {
        String::from_utf8(self.stdout(args)).expect("UTF-8")
    }

    /// The one JSON document that it prints.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let stdout = self.stdout(&[args, &["--json"]].concat());
        serde_json::from_slice(&stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {stdout:?}"))
    }

    /// The JSON objects that it prints, one a line.
    pub(crate) fn json_lines(&self, args: &[&str]) -> Vec<Value> {
        let stdout = self.text(&[args, &["--json"]].concat());
        stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    pub(crate) fn publish(&self, message: &str) {
        self.run(&["publish", "q", "--", message]).assert().success();
    }

    pub(crate) fn publish_lines(&self, lines: &str) {
        self.run(&["publish", "q", "--lines"]).write_stdin(lines).assert().success();
    }

    /// Where the group `default` of the queue `q` stands.
    pub(crate) fn group(&self) -> Value {
        self.json(&["stats", "q"])[0]["groups"][0].clone()
    }

    /// The counts of that group: ready, leased, retrying, dead.
    pub(crate) fn counts(&self) -> [u64; 4] {
        let group = self.group();
        ["ready", "leased", "retrying", "dead"].map(|state| group[state].as_u64().expect("a count"))
    }
}

/// A `ringway` that runs; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
}

impl Running {
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("a signal to a child of ours");
    }

    /// Waits for its end: exit code and stderr.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        until("the command ends", || self.child.try_wait().expect("a child of ours").is_some());
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().expect("piped");
        std::io::Read::read_to_string(&mut pipe, &mut stderr).expect("UTF-8 on stderr");
        (self.child.wait().expect("a child of ours").code(), stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until this is so; not for ever.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < HANGS, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asserts this exit code, and that stderr is one line with this in it.
#[track_caller]
pub(crate) fn fails(mut command: Command, code: i32, with: &str) -> Assert {
    let assert = command.assert();
    let output = assert.get_output();
    let stderr = String::from_utf8(output.stderr.clone()).expect("UTF-8 on stderr");
    assert_eq!(output.status.code(), Some(code), "stderr: {stderr}");
    assert!(stderr.starts_with("ringway: ") && stderr.ends_with('\n'), "stderr: {stderr:?}");
    assert_eq!(stderr.lines().count(), 1, "stderr: {stderr}");
    assert!(stderr.contains(with), "{with:?} is not in: {stderr}");
    assert
}
