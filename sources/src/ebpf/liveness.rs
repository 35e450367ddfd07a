//! Asking the kernel whether a socket is still held.
//!
//! A TCP socket's end is told by its state; of Unix sockets only `close` is seen. So whoever keeps
//! connections asks now and then: a program that is attached to nothing looks, and costs one system
//! call (about 2 µs). Needs Linux 5.10; before, the answer is that nobody knows.

use aya::Ebpf;
use aya::programs::{Program, RawTracePoint, RawTracePointRunOptions, TestRun};

use super::can_run::ProgramStatus;
use crate::capture::{ConnKey, Liveness};
use weir_types::text::with_causes;

const PROGRAM: &str = "is_open";

/// Load the program that looks.
pub(super) fn load(ebpf: &mut Ebpf) -> ProgramStatus {
    let loaded = match ebpf.program_mut(PROGRAM) {
        Some(Program::RawTracePoint(program)) => {
            program.load().map_err(|error| super::attach::shortened(&with_causes(&error)))
        }
        _ => Err("not in the object".to_string()),
    };
    ProgramStatus { program: format!("syscalls/{PROGRAM}"), reason: loaded.err() }
}

pub(super) fn ask(ebpf: &Ebpf, key: ConnKey) -> Liveness {
    let Some(Program::RawTracePoint(program)) = ebpf.program(PROGRAM) else {
        return Liveness::Unknown;
    };
    answer(program, key).unwrap_or(Liveness::Unknown)
}

fn answer(program: &RawTracePoint, key: ConnKey) -> Option<Liveness> {
    let mut options = RawTracePointRunOptions::default();
    options.args[0] = key.sock;
    options.args[1] = key.inode;
    match program.test_run(options).ok()?.return_value {
        0 => Some(Liveness::Gone),
        _ => Some(Liveness::Open),
    }
}
