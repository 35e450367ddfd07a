//! Whether this machine takes our programs and, if not, what is in the way. Looks, changes nothing.

use aya::programs::ProgramError;

use super::attach::{self, Tracefs};
use weir_types::text::with_causes;

/// Ring buffers and `CAP_BPF` arrived in 5.8.
const KERNEL_MIN: (u32, u32) = (5, 8);
pub(super) const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";
const RELEASE_PATH: &str = "/proc/sys/kernel/osrelease";
const LOCKDOWN_PATH: &str = "/sys/kernel/security/lockdown";

const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Why eBPF capture is not possible here.
#[derive(Debug, thiserror::Error)]
pub enum CannotRun {
    #[error("the kernel is {found}: eBPF capture needs Linux 5.8 or later")]
    KernelTooOld { found: String },
    #[error("missing {missing}: run as root, or grant the capabilities")]
    MissingCapabilities { missing: String },
    #[error("the kernel has no type information at {BTF_PATH} (CONFIG_DEBUG_INFO_BTF)")]
    NoBtf,
    #[error("could not read the kernel's type information")]
    BadBtf {
        #[source]
        source: aya::BtfError,
    },
    #[error("kernel lockdown is in confidentiality mode, which forbids reading kernel memory")]
    Lockdown,
    #[error("tracefs is neither mounted at /sys/kernel/tracing nor mountable")]
    NoTracefs {
        #[source]
        source: std::io::Error,
    },
    #[error("could not load the {program} programs")]
    Load {
        program: &'static str,
        #[source]
        source: aya::EbpfError,
    },
    #[error("the kernel refused the program {program}")]
    Verify {
        program: &'static str,
        #[source]
        source: ProgramError,
    },
    #[error("could not use the map {map}")]
    Map {
        map: &'static str,
        #[source]
        source: aya::maps::MapError,
    },
    #[error("the kernel has no function {0}")]
    NoKernelFunction(&'static str),
    #[error("the object has no {0}")]
    BadObject(&'static str),
    #[error("could not set up the filters")]
    Filters(#[from] super::FilterError),
    #[error("could not make what wakes the thread that captures")]
    NoWake {
        #[source]
        source: std::io::Error,
    },
    #[error("no program could be attached: {reason}")]
    NothingAttached { reason: String },
}

/// A program, and why it is not on (or would not be).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramStatus {
    pub program: String,
    pub reason: Option<String>,
}

/// Every program with what is in its way, as far as can be told without loading it.
#[must_use]
pub fn can_run() -> Vec<ProgramStatus> {
    let machine = check_machine().and_then(|()| Tracefs::open());
    attach::PROGRAMS
        .iter()
        .map(|program| {
            let reason = match &machine {
                Err(error) => Some(with_causes(error)),
                Ok(_) if program.is_raw() => None,
                Ok(tracefs) => {
                    tracefs.id(program.category, program.tracepoint).err().map(|error| {
                        format!(
                            "no tracepoint {}/{}: {error}",
                            program.category, program.tracepoint
                        )
                    })
                }
            };
            ProgramStatus { program: format!("{}/{}", program.object, program.name), reason }
        })
        .collect()
}

/// Whether the machine takes any program at all.
///
/// # Errors
/// What is in the way.
pub fn machine_can_run() -> Result<(), CannotRun> {
    check_machine()?;
    Tracefs::open().map(drop)
}

pub(super) fn check_machine() -> Result<(), CannotRun> {
    if kernel_version() < KERNEL_MIN {
        return Err(kernel_too_old());
    }
    let missing = missing_capabilities(&read("/proc/self/status"));
    if !missing.is_empty() {
        return Err(CannotRun::MissingCapabilities { missing: missing.join(", ") });
    }
    if !std::fs::exists(BTF_PATH).unwrap_or(false) {
        return Err(CannotRun::NoBtf);
    }
    if read(LOCKDOWN_PATH).contains("[confidentiality]") {
        return Err(CannotRun::Lockdown);
    }
    Ok(())
}

pub(super) fn kernel_version() -> (u32, u32) {
    parse_version(&read(RELEASE_PATH))
}

pub(super) fn kernel_too_old() -> CannotRun {
    CannotRun::KernelTooOld { found: read(RELEASE_PATH).trim().to_string() }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// `6.1.0-18-amd64` is (6, 1); what cannot be read is (0, 0).
fn parse_version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse::<u32>().unwrap_or_default());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

/// From `/proc/self/status`. `CAP_SYS_ADMIN` stands for all of them.
fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or_default();
    let has = |cap: u32| effective >> cap & 1 == 1;
    if has(CAP_SYS_ADMIN) {
        return Vec::new();
    }
    let needed = [
        (CAP_BPF, "CAP_BPF"),
        (CAP_PERFMON, "CAP_PERFMON"),
        (CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
    ];
    needed.into_iter().filter(|(cap, _)| !has(*cap)).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distributions' release strings are compared as numbers, not as text.
    #[test]
    fn kernel_versions() {
        assert_eq!(parse_version("5.15.0-105-generic\n"), (5, 15));
        assert_eq!(parse_version("6.18.44-fc-v509"), (6, 18));
        assert!(parse_version("5.4.0") < KERNEL_MIN && parse_version("5.10.1") > KERNEL_MIN);
        assert_eq!(parse_version(""), (0, 0));
    }

    /// A process without rights is told exactly which ones to ask for.
    #[test]
    fn capabilities() {
        assert_eq!(
            missing_capabilities("CapEff:\t0000000000000000\n"),
            ["CAP_BPF", "CAP_PERFMON", "CAP_DAC_READ_SEARCH"]
        );
        assert_eq!(missing_capabilities("CapEff:\t000000c000000000"), ["CAP_DAC_READ_SEARCH"]);
        assert!(missing_capabilities("CapEff:\t000001ffffffffff").is_empty());
        assert_eq!(missing_capabilities("").len(), 3);
    }
}
