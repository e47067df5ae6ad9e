//! Whether the system has killed a process for want of memory: it counts that, for each group of processes.

use std::fs;
use std::path::{Path, PathBuf};

/// The files in which the system counts such kills: of the process's own groups, and of the whole system.
#[derive(Debug)]
pub(super) struct Kills {
    counts: Vec<(PathBuf, u64)>,
}

impl Kills {
    /// Notes what was counted until now.
    pub(super) fn until_now(pid: Option<u32>) -> Self {
        let groups = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok());
        Self::of(Path::new("/"), &groups.unwrap_or_default())
    }

    fn of(root: &Path, groups: &str) -> Self {
        let mut files: Vec<PathBuf> = groups.lines().filter_map(|line| file(root, line)).collect();
        files.push(root.join("proc/vmstat"));
        let counts = files.into_iter().filter_map(|file| count(&file).map(|count| (file, count))).collect();
        Self { counts }
    }

    /// Returns the file in which more were counted since then.
    pub(super) fn since(&self) -> Option<&Path> {
        let more = self.counts.iter().find(|(file, before)| count(file).is_some_and(|now| now > *before));
        more.map(|(file, _)| &**file)
    }
}

/// The file of a line of `/proc/PID/cgroup`: `0::/group`, or `4:memory:/group` of the first version.
fn file(root: &Path, line: &str) -> Option<PathBuf> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, group) = rest.split_once(':')?;
    let group = group.trim_start_matches('/');
    if controllers.is_empty() {
        // Beside the first version, the second is mounted below.
        let places = ["sys/fs/cgroup", "sys/fs/cgroup/unified"];
        return places
            .iter()
            .map(|place| root.join(place).join(group).join("memory.events"))
            .find(|file| file.exists());
    }
    let memory = controllers.split(',').any(|controller| controller == "memory");
    memory.then(|| root.join("sys/fs/cgroup/memory").join(group).join("memory.oom_control"))
}

/// The line `oom_kill N`.
fn count(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_found_where_each_system_counts_it() {
        let cases = [
            ("0::/user/kernel\n", "sys/fs/cgroup/user/kernel/memory.events"),
            ("4:cpu:/\n0::/\n", "sys/fs/cgroup/unified/memory.events"),
            ("9:name=systemd:/\n4:cpu,memory:/group\n", "sys/fs/cgroup/memory/group/memory.oom_control"),
            ("", "proc/vmstat"),
        ];
        for (groups, file) in cases {
            let root = tempfile::tempdir().unwrap();
            let file = root.path().join(file);
            let say = |count: u64| {
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, format!("low 7\noom 9\noom_kill {count}\noom_kill_disable 5\n")).unwrap();
            };
            say(3);
            let kills = Kills::of(root.path(), groups);
            assert_eq!(kills.since(), None, "{groups}");
            say(4);
            assert_eq!(kills.since(), Some(&*file), "{groups}");
            fs::remove_file(&file).unwrap();
            assert_eq!(kills.since(), None, "{groups}");
        }
        assert_eq!(Kills::of(Path::new("/nowhere"), "nonsense\n::\n0::/x\n").since(), None);
    }
}
