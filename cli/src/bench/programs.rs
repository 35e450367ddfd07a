//! What an agent's eBPF programs cost: the kernel counts it while it is asked to, and `/proc` shows it of
//! each program that a process holds. So agents of any age are measured alike, from outside.

use std::os::fd::OwnedFd;

use anyhow::{Context, bail};
use weir_types::{Clock, WallClock};

/// Counting goes on as long as this lives.
pub(super) struct Counting {
    pid: u32,
    _on: OwnedFd,
}

/// Of all programs of the agent, since counting began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) at_ns: u64,
    pub(super) run_ns: u64,
    pub(super) runs: u64,
}

impl Cost {
    pub(super) fn since(self, before: Cost) -> Cost {
        Cost {
            at_ns: self.at_ns - before.at_ns,
            run_ns: self.run_ns.saturating_sub(before.run_ns),
            runs: self.runs.saturating_sub(before.runs),
        }
    }

    /// Without what the rest of the machine makes the programs do in the same time.
    pub(super) fn without(self, idle: Cost) -> Cost {
        let share =
            |count: u64| (count as f64 * self.at_ns as f64 / idle.at_ns.max(1) as f64) as u64;
        Cost {
            at_ns: self.at_ns,
            run_ns: self.run_ns.saturating_sub(share(idle.run_ns)),
            runs: self.runs.saturating_sub(share(idle.runs)),
        }
    }
}

impl Counting {
    pub(super) fn start(pid: u32) -> anyhow::Result<Counting> {
        let on =
            weir_sources::ebpf::count_run_times().context("the kernel does not count run times")?;
        let counting = Counting { pid, _on: on };
        if programs_of(pid)?.is_empty() {
            bail!("the agent holds no eBPF programs");
        }
        Ok(counting)
    }

    pub(super) fn read(&self) -> anyhow::Result<Cost> {
        let at_ns = WallClock.monotonic_ns();
        let all = programs_of(self.pid)?;
        let [run_ns, runs] = [0, 1].map(|idx| all.iter().map(|program| program[idx]).sum());
        Ok(Cost { at_ns, run_ns, runs })
    }
}

/// Run time and runs of each program that the process holds.
fn programs_of(pid: u32) -> anyhow::Result<Vec<[u64; 2]>> {
    let dir = format!("/proc/{pid}/fdinfo");
    let entries = std::fs::read_dir(&dir).with_context(|| format!("could not read {dir}"))?;
    let mut programs = std::collections::BTreeMap::new();
    for entry in entries.filter_map(Result::ok) {
        // A descriptor may be closed in between.
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        if let Some((id, cost)) = program_in(&text) {
            programs.insert(id, cost);
        }
    }
    Ok(programs.into_values().collect())
}

/// The id, run time and runs of the program that a descriptor is of. Of a link to one it says no run time.
fn program_in(fdinfo: &str) -> Option<(u64, [u64; 2])> {
    let value = |name: &str| {
        let line = fdinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line?.trim().parse().ok()
    };
    Some((value("prog_id")?, [value("run_time_ns")?, value("run_cnt")?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Descriptors of programs are told from others, and from links to programs, which would count twice.
    #[test]
    fn descriptors_of_programs() {
        let program = "pos:\t0\nflags:\t02000002\nprog_type:\t5\nprog_jited:\t1\nprog_id:\t17\n\
                       run_time_ns:\t1200\nrun_cnt:\t4\nrecursion_misses:\t0\n";
        assert_eq!(program_in(program), Some((17, [1_200, 4])));
        assert_eq!(program_in("link_type:\traw_tracepoint\nlink_id:\t3\nprog_id:\t17\n"), None);
        assert_eq!(program_in("pos:\t0\nflags:\t02\n"), None);
    }

    /// What the machine does by itself is taken off in proportion to the time.
    #[test]
    fn what_runs_anyway_is_no_cost() {
        let idle = Cost { at_ns: 1_000, run_ns: 30, runs: 3 };
        let loaded = Cost { at_ns: 4_000, run_ns: 1_000, runs: 100 };
        assert_eq!(loaded.without(idle), Cost { at_ns: 4_000, run_ns: 880, runs: 88 });
    }
}
