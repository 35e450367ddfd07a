//! What the process says of itself, over made-up files, and of this very process.

use std::path::Path;

use weir_sources::agent::{OwnProcess, machine_address};

use crate::fixture::Machine;

const STATUS: &str = "Name:\tweir\nState:\tS (sleeping)\nVmPeak:\t  2048 kB\nVmRSS:\t 100 kB\n\
                      Threads:\t7\nvoluntary_ctxt_switches:\t42\n";
const SMAPS: &str = "\
00400000-00500000 r-xp 00001000 08:01 123                                /usr/bin/we ir
Size:               1024 kB
Rss:                  12 kB
VmFlags: rd ex mr
7ffc0000-7ffd0000 rw-p 00000000 00:00 0                                  [stack]
Size:                 64 kB
7ffe0000-7ffe1000 r--p 00000000 00:00 0 
Size:                  4 kB
";

/// Kilobytes become bytes, counts stay, texts are no numbers; a path keeps its blanks.
#[test]
fn own_files_are_read() {
    let machine = Machine::new();
    machine.write("proc/self/status", STATUS);
    machine.write("proc/self/smaps", SMAPS);
    let mut own = OwnProcess::new(machine.root());
    let status = own.status();
    assert_eq!((status["VmPeak"], status["Threads"]), (2048 * 1024, 7));
    assert_eq!(status["voluntary_ctxt_switches"], 42);
    assert!(!status.contains_key("Name"));
    let mappings = own.mappings();
    let paths: Vec<&str> = mappings.iter().map(|mapping| mapping.pathname.as_str()).collect();
    assert_eq!(paths, ["/usr/bin/we ir", "[stack]", ""]);
    assert_eq!(
        (mappings[0].address.as_str(), mappings[0].offset.as_str()),
        ("00400000-00500000", "00001000")
    );
    assert_eq!((mappings[0].fields["Size"], mappings[0].fields["Rss"]), (1024 * 1024, 12 * 1024));
    assert_eq!(mappings[1].fields.len(), 1);
}

/// Headers are looked for where this kernel's would be, not any kernel's.
#[test]
fn kernel_headers_are_those_of_the_running_kernel() {
    let machine = Machine::new();
    let mut own = OwnProcess::new(machine.root());
    assert!(!own.kernel_headers_installed());
    machine.write("proc/sys/kernel/osrelease", "6.1.0-13-amd64\n");
    machine.write("usr/src/linux-headers-5.0.0/Makefile", "");
    assert!(!own.kernel_headers_installed());
    machine.write("usr/src/linux-headers-6.1.0-13-amd64/Makefile", "");
    assert!(own.kernel_headers_installed());
}

/// The formats above are the kernel's.
#[test]
fn this_process_has_files_too() {
    let mut own = OwnProcess::new(Path::new("/"));
    assert!(own.status()["VmRSS"] > 0);
    let mappings = own.mappings();
    assert!(mappings.iter().any(|mapping| mapping.pathname == "[stack]"));
    assert!(mappings.iter().all(|mapping| mapping.fields.contains_key("Rss")));
    assert!(machine_address().is_some());
}
