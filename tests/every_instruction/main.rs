//! Kills a process at every instruction of each operation, and looks at what it left.
//!
//! For every operation and every number k: a child takes part in a store, is single-stepped k instructions
//! into the operation, and is killed there. A witness in another process must then find that no message was
//! lost that was confirmed, none came up that nobody published, none came twice, the counts are right, nobody
//! is wedged, and `verify` has nothing to say. At some of the points the victim is paused instead: the
//! witness must go on beside it, and the victim, resumed, must finish or be told why not.
//!
//! One line per operation: `EVERY_INSTRUCTION {json}`. By default a run takes some 20 seconds, and strides
//! over points to keep to that where there are many (an unoptimised build has several times the
//! instructions); the line says so. `EVERY_INSTRUCTION=600` takes ten minutes for it,
//! `EVERY_INSTRUCTION=full` visits every point of every operation (hours: some are 100,000s of instructions
//! long), and `EVERY_INSTRUCTION_ONLY=ack,nack` chooses operations.
//!
//! Linux on x86-64, and only where `ptrace` is permitted; elsewhere it says that it was skipped.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod board;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod operations;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod remains;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod run;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod scene;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod tracee;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    run::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("EVERY_INSTRUCTION skipped: it needs Linux on x86-64");
}
