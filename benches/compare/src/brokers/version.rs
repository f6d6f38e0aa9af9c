//! Which versions of the servers are installed.

use std::process::Command;

use super::server::find;

/// The version of a program, from what it prints with this argument, or for a link from where it leads.
pub fn installed(program: &str, argument: Option<&str>) -> Option<String> {
    let path = find(program)?;
    let Some(argument) = argument else { return first_version(path.canonicalize().ok()?.to_str()?) };
    let output = Command::new(path).arg(argument).output().ok()?;
    first_version(&String::from_utf8_lossy(&output.stdout))
}

/// The first numbers with dots between them.
fn first_version(text: &str) -> Option<String> {
    let runs = text.split(|char: char| !char.is_ascii_digit() && char != '.');
    let mut versions = runs.map(|run| run.trim_matches('.')).filter(|run| run.contains('.'));
    versions.next().map(str::to_owned)
}

/// Whether a version is at least this one.
pub fn is_at_least(version: &str, least: (u32, u32)) -> bool {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= least,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_servers_print() {
        let found = |text| first_version(text).unwrap_or_default();
        assert_eq!(found("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64"), "7.0.15");
        assert_eq!(found("nats-server: v2.9.10\n"), "2.9.10");
        assert_eq!(found("beanstalkd 1.12\n"), "1.12");
        assert_eq!(found("/usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8/sbin/rabbitmq-server"), "3.10.8");
        assert_eq!(first_version("no version 7"), None);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_at_least("2.10.1", (2, 10)) && is_at_least("3.0", (2, 10)));
        assert!(!is_at_least("2.9.10", (2, 10)) && !is_at_least("unknown", (2, 10)));
    }
}
