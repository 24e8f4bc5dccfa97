//! How large the machine is for this process: CPUs, memory, GPUs, each as far as a container allows.
//!
//! CPUs come from the standard library, which on Linux looks at the affinity mask and at the CPU quota
//! of cgroup v1 and v2. Memory is the smallest limit of the process's cgroup and of those above it,
//! or what the machine has. What cannot be found out is left out, never guessed.

use std::path::Path;
use std::{env, fs, thread};

/// What this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    pub cpus: u32,
    /// Bytes; `None` where the system does not say.
    pub memory: Option<u64>,
    /// NVIDIA devices that a program started here would see.
    pub gpus: u32,
}

impl Machine {
    pub(super) fn read() -> Self {
        let count = |n: std::num::NonZeroUsize| u32::try_from(n.get()).unwrap_or(u32::MAX);
        let devices = fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, Iterator::count);
        Self {
            cpus: thread::available_parallelism().map_or(1, count),
            memory: memory(&|path| fs::read_to_string(path).ok()),
            gpus: gpus(env::var("CUDA_VISIBLE_DEVICES").ok().as_deref(), devices),
        }
    }
}

/// The bytes that this process may use: the smallest of the machine's memory and all cgroup limits.
fn memory(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let total = read(Path::new("/proc/meminfo")).and_then(|text| total_of(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(|line| limit_of(line, read));
    limits.chain(total).min()
}

/// `MemTotal` of `/proc/meminfo`.
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The memory limit behind one line of `/proc/self/cgroup`: `0::/path` in v2, `4:memory:/path` in v1.
fn limit_of(line: &str, read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let (root, file) = if controllers.is_empty() {
        ("/sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return None;
    };
    // A container often sees its own group as the root, whatever its path says; so the root is asked
    // as well, and a limit further up counts like one of its own.
    let path = Path::new(path.trim_start_matches('/'));
    let limits = path.ancestors().filter_map(|part| read(&Path::new(root).join(part).join(file)));
    // `max`, and in v1 a number near 2^63, say that there is none.
    limits.filter_map(|text| text.trim().parse().ok()).filter(|&limit| limit < 1 << 60).min()
}

/// How many of the machine's devices CUDA would show: those listed before the first invalid one.
fn gpus(visible: Option<&str>, present: usize) -> u32 {
    let listed = visible.map(|list| {
        let names = list.split(',').map(str::trim);
        names.take_while(|name| !name.is_empty() && !name.starts_with('-') && *name != "NoDevFiles")
    });
    let count = listed.map_or(present, Iterator::count);
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       16384 kB\nMemFree:         1000 kB\n";

    fn memory_of(files: &[(&str, &str)]) -> Option<u64> {
        memory(&|path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn without_a_limit_the_machine_counts() {
        assert_eq!(memory_of(&[("/proc/meminfo", MEMINFO)]), Some(16_384 * 1024));
        let unlimited = [
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", "0::/user.slice\n"),
            ("/sys/fs/cgroup/user.slice/memory.max", "max\n"),
        ];
        assert_eq!(memory_of(&unlimited), Some(16_384 * 1024));
        assert_eq!(memory_of(&[]), None);
    }

    #[test]
    fn the_tightest_limit_of_the_groups_above_counts() {
        let files = [
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/memory.max", "5000\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "7000\n"),
        ];
        assert_eq!(memory_of(&files), Some(5_000));
    }

    #[test]
    fn a_container_that_is_its_own_root_is_seen() {
        let files =
            [("/proc/self/cgroup", "0::/docker/4f\n"), ("/sys/fs/cgroup/memory.max", "4096\n")];
        assert_eq!(memory_of(&files), Some(4_096));
    }

    #[test]
    fn version_1_has_a_tree_of_its_own_and_a_large_number_for_none() {
        let groups = "5:cpu,cpuacct:/x\n4:memory:/docker/4f\n";
        let limit = |text| {
            memory_of(&[
                ("/proc/self/cgroup", groups),
                ("/sys/fs/cgroup/memory/docker/4f/memory.limit_in_bytes", text),
            ])
        };
        assert_eq!(limit("2048\n"), Some(2_048));
        assert_eq!(limit("9223372036854771712\n"), None);
        assert_eq!(limit("nonsense\n"), None);
    }

    #[test]
    fn visible_devices_are_those_before_the_first_invalid_one() {
        for (visible, expected) in [
            (None, 3),
            (Some(""), 0),
            (Some("-1"), 0),
            (Some("NoDevFiles"), 0),
            (Some("0,2"), 2),
            (Some("1,-1,2"), 1),
            (Some("GPU-8f2a, MIG-1"), 2),
        ] {
            assert_eq!(gpus(visible, 3), expected, "{visible:?}");
        }
    }

    #[test]
    fn this_machine_has_a_size() {
        assert!(Machine::read().cpus >= 1);
    }
}
