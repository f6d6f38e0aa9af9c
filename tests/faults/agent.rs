//! A process that does as it is told, line by line.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringway::{Consumer, Delivery, Lease, Producer, Queue, Removal, Store};

/// Tells the test binary that it is an agent: which part it plays.
const PART: &str = "RINGWAY_FAULTS_PART";

/// Where its store is.
const STORE: &str = "RINGWAY_FAULTS_STORE";

/// What begins the lines of an agent, to tell them from those of the test harness.
const MARK: &str = "agent> ";

/// An agent, from outside. Killed when dropped.
pub(crate) struct Agent {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Agent {
    /// Starts one that follows commands (see [`follow`]) in the queue `q` of this store.
    pub(crate) fn start(store: &Path) -> Agent {
        Agent::play("follow", store, &mut Command::new(this_binary()))
    }

    /// Starts one that plays this part. `command` is this binary, or something that starts it.
    pub(crate) fn play(part: &str, store: &Path, command: &mut Command) -> Agent {
        let mut process = command
            .args(["--exact", "agent::agent_process", "--nocapture", "--test-threads=1"])
            .env(PART, part)
            .env(STORE, store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start an agent");
        let input = process.stdin.take().expect("its input");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        Agent { process, input, output }
    }

    /// Tells it something, and returns its answer.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.hear().unwrap_or_else(|| panic!("the agent ended at {command:?}"))
    }

    /// Tells it something.
    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("the agent listens");
    }

    /// The next line it says; `None` if it has ended.
    pub(crate) fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.output.read_line(&mut line).expect("read from the agent") != 0 {
            if let Some((_, said)) = line.trim_end().split_once(MARK) {
                return Some(said.to_owned());
            }
            line.clear();
        }
        None
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("signal the agent");
    }

    /// SIGKILL; returns when it is no more.
    pub(crate) fn kill(mut self) {
        self.process.kill().expect("kill");
        self.process.wait().expect("wait");
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> ExitStatus {
        self.process.wait().expect("wait")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn this_binary() -> std::path::PathBuf {
    std::env::current_exe().expect("the path of this binary")
}

/// Says something to whoever started this agent.
pub(crate) fn say(what: impl std::fmt::Display) {
    println!("\n{MARK}{what}");
}

/// Not a test by itself: what the agents run.
#[test]
fn agent_process() {
    let (Ok(part), Some(store)) = (std::env::var(PART), std::env::var_os(STORE)) else { return };
    let store = Path::new(&store);
    match part.as_str() {
        "follow" => follow(store),
        "fork" => super::forks::parent(store),
        "fill" => super::namespaces::fill(store),
        "create" => super::creation::create_for_ever(store),
        "race" => super::creation::race(store),
        other => panic!("no such part: {other}"),
    }
}

/// What an agent has; leaked on purpose, so that it ends like a process that is killed.
#[derive(Default)]
struct Hands {
    queue: Option<Queue>,
    producer: Option<&'static Producer>,
    consumer: Option<&'static Consumer>,
    held: Vec<Delivery<'static>>,
}

/// Follows commands until there are no more.
fn follow(store: &Path) {
    let mut hands = Hands::default();
    for line in std::io::stdin().lines() {
        let line = line.expect("read a command");
        let words: Vec<&str> = line.split_whitespace().collect();
        say(obey(&mut hands, store, &words));
    }
    std::mem::forget(hands);
}

fn obey(hands: &mut Hands, store: &Path, words: &[&str]) -> String {
    match *words {
        ["pid"] => std::process::id().to_string(),
        ["open"] => {
            let queue = Store::open(store).and_then(|store| store.queue("q"));
            answer(queue.map(|queue| hands.queue = Some(queue)))
        }
        ["producer", role] => {
            let builder = hands.queue.as_ref().expect("opened").producer();
            let built = if role == "exclusive" { builder.exclusive() } else { builder }.build();
            answer(built.map(|producer| hands.producer = Some(Box::leak(Box::new(producer)))))
        }
        ["consumer", role, lease] => {
            let builder = hands.queue.as_ref().expect("opened").consumer("default");
            let builder = if role == "exclusive" { builder.exclusive() } else { builder };
            let lease = match lease.parse() {
                Ok(ms) => Lease::Timed(Duration::from_millis(ms)),
                Err(_) => Lease::UntilDeath,
            };
            let built = builder.lease(lease).build();
            answer(built.map(|consumer| hands.consumer = Some(Box::leak(Box::new(consumer)))))
        }
        ["remove", millis] => {
            let longest = std::time::Duration::from_millis(millis.parse().expect("a number"));
            answer(Store::open(store).and_then(|store| store.remove_queue("q", Removal::WaitFor(longest))))
        }
        ["publish", text] => answer(hands.producer.expect("a producer").publish(text).map(drop)),
        ["take"] => match hands.consumer.expect("a consumer").receive_timeout(super::LONG) {
            Ok(Some(delivery)) => {
                let payload = String::from_utf8_lossy(delivery.payload()).into_owned();
                let said = format!("{payload} {}", delivery.failures());
                hands.held.push(delivery);
                said
            }
            Ok(None) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        },
        ["ack"] => answer(hands.held.remove(0).ack()),
        ["forget"] => {
            std::mem::forget(hands.held.remove(0));
            "done".to_owned()
        }
        ["exec"] => {
            use std::os::unix::process::CommandExt;
            // The shell says so itself, when it is there.
            let script = format!("echo '{MARK}execed'; read line");
            let error = Command::new("/bin/sh").args(["-c", &script]).exec();
            error.to_string()
        }
        ["close_range"] => {
            // SAFETY: closes the descriptors that the library and the runtime have open: this is what is
            // tested. No owner of one is dropped after it, since the agent leaks them all.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
            if closed == 0 { "done".to_owned() } else { std::io::Error::last_os_error().to_string() }
        }
        _ => panic!("no such command: {words:?}"),
    }
}

fn answer<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "done".to_owned())
}
