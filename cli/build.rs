//! Tells the command which commit it is built from, if it is built from a checkout.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A package unpacked inside of somebody else's checkout is not of that commit.
    let ours = Path::new("../.git").exists();
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).filter(|_| ours);
    if ours && let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    println!("cargo::rustc-env=RINGWAY_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
