//! The `ringway` command: parse, call the library, print.
//!
//! [`args`] says what can be asked, [`commands`] holds one module per subcommand, [`exit`] turns every
//! outcome into an exit code and at most one line on stderr, [`output`] writes to stdout, [`lines`]
//! has messages as JSON lines, and [`units`] reads times and sizes.

mod args;
mod commands;
mod exit;
mod lines;
mod output;
mod signals;
mod units;

use std::process::ExitCode;

fn main() -> ExitCode {
    match args::parse() {
        Ok(cli) => exit::report(commands::run(cli)),
        Err(code) => code,
    }
}
