//! Weir's eBPF programs, and the layouts they share with user space.
//!
//! `programs/<name>/*.bpf.c` are C with CO-RE relocations, compiled by `build.rs` (or taken from
//! `prebuilt/`) and embedded here as bytes. [`abi`] mirrors their records and map values. Loading
//! them is for `weir-sources`: this crate runs nothing and depends on nothing.

#![deny(unsafe_op_in_unsafe_fn)]

pub mod abi;
pub mod btf;

/// ELF readers want eight-byte alignment, which `include_bytes!` does not promise.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

macro_rules! object {
    ($name:literal) => {{
        static OBJECT: &Aligned<[u8]> =
            &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/", $name)));
        &OBJECT.0
    }};
}

/// How the objects came to be: the compiler's command, or `prebuilt/<arch>`.
pub const BUILT_BY: &str = env!("WEIR_BPF_BUILT_BY");

/// Socket capture for kernels from 5.8 on: every field read by a helper.
#[must_use]
pub fn syscalls_5_8_object() -> &'static [u8] {
    object!("syscalls_5_8.bpf.o")
}

/// The same programs for kernels from 5.15 on (arm64: 5.18): the task's fields loaded directly.
#[must_use]
pub fn syscalls_5_15_object() -> &'static [u8] {
    object!("syscalls_5_15.bpf.o")
}

/// The same programs for kernels from 6.2 on: all fields loaded directly. To be loaded after
/// [`with_cast_function`].
#[must_use]
pub fn syscalls_6_2_object() -> &'static [u8] {
    object!("syscalls_6_2.bpf.o")
}

/// Process starts and ends.
#[must_use]
pub fn process_object() -> &'static [u8] {
    object!("process.bpf.o")
}

/// The kernel function that [`syscalls_6_2_object`] calls: its id in the kernel's BTF goes to
/// [`with_cast_function`].
pub const CAST_FUNCTION: &str = "bpf_rdonly_cast";

/// A call of a kernel function (opcode 0x85, source register 2) whose id is still "weir".
const CAST_CALL: [u8; 8] = 0x7765_6972_0000_2085_u64.to_le_bytes();

/// The object with the calls of [`CAST_FUNCTION`] completed.
#[must_use]
pub fn with_cast_function(object: &[u8], function_id: u32) -> Vec<u8> {
    let mut object = object.to_vec();
    // Instructions are eight bytes and aligned in their sections, as those are in the file.
    for instruction in object.chunks_exact_mut(8).filter(|bytes| **bytes == CAST_CALL) {
        instruction[4..].copy_from_slice(&function_id.to_le_bytes());
    }
    object
}
