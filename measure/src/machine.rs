//! Which machine it was, and on which of its processors.

use std::fs;
use std::path::Path;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::statfs::{self, statfs};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The machine, for people to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// The processors that this process may use.
    pub cpus: Vec<usize>,
    /// The kernel's release.
    pub kernel: String,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// The file system of /dev/shm.
    pub shm: String,
    /// The governor of the first processor's frequency, where there is one to read.
    pub governor: Option<String>,
}

impl Machine {
    /// Reads it. What cannot be read is "unknown".
    pub fn read() -> Machine {
        let mut cpus = cpus();
        cpus.sort_unstable();
        let first = cpus.first().copied().unwrap_or(0);
        let governor = format!("/sys/devices/system/cpu/cpu{first}/cpufreq/scaling_governor");
        Machine {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cpus,
            kernel: line("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
            memory_bytes: memory_bytes(),
            shm: file_system(Path::new("/dev/shm")),
            governor: line(&governor),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The first line of a file.
fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

/// The value of the first `name: value` line with this name.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

fn memory_bytes() -> u64 {
    let total = field("/proc/meminfo", "MemTotal");
    let kib = total.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn file_system(path: &Path) -> String {
    let kind = match statfs(path).map(|found| found.filesystem_type()) {
        Ok(statfs::TMPFS_MAGIC) => "tmpfs",
        Ok(statfs::EXT4_SUPER_MAGIC) => "ext4",
        Ok(statfs::BTRFS_SUPER_MAGIC) => "btrfs",
        Ok(statfs::XFS_SUPER_MAGIC) => "xfs",
        Ok(statfs::OVERLAYFS_SUPER_MAGIC) => "overlayfs",
        Ok(other) => return format!("{:#x}", other.0),
        Err(_) => "unknown",
    };
    kind.to_owned()
}

/// The processors that this process may use: first one of each core, then their siblings, so that the first
/// few do not share a core if that can be helped.
pub fn cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return vec![0] };
    let allowed = || (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false));
    let mut taken = Vec::new();
    let (mut firsts, mut siblings) = (Vec::new(), Vec::new());
    for cpu in allowed() {
        let core = line(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
        match core {
            Some(core) if taken.contains(&core) => siblings.push(cpu),
            core => {
                firsts.push(cpu);
                taken.extend(core);
            }
        }
    }
    firsts.extend(siblings);
    firsts
}

/// Pins this process, which has one thread, to this processor.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    let pinned = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    pinned.map_err(|error| Error::from(error).about(format!("pinning to processor {cpu}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_there() {
        let machine = Machine::read();
        assert!(!machine.cpus.is_empty() && machine.memory_bytes > 0, "{machine:?}");
        assert_ne!(machine.kernel, "unknown");
        let json = serde_json::to_string(&machine).expect("JSON");
        assert_eq!(serde_json::from_str::<Machine>(&json).expect("the same JSON"), machine);
    }

    #[test]
    fn there_are_no_processors_without_end() {
        assert!(pin(1_000_000).is_err());
    }
}
