//! The layouts of `abi` against those of the built objects, and the objects themselves.

mod stack;

use std::mem::{align_of, offset_of, size_of};

use weir_bpf::abi;
use weir_bpf::btf::{self, Layout};

fn objects() -> [(&'static str, &'static [u8]); 4] {
    [
        ("5.8", weir_bpf::syscalls_5_8_object()),
        ("5.15", weir_bpf::syscalls_5_15_object()),
        ("6.2", weir_bpf::syscalls_6_2_object()),
        ("process", weir_bpf::process_object()),
    ]
}

/// The contents of an ELF64 section.
fn elf_section<'a>(object: &'a [u8], name: &str) -> &'a [u8] {
    let u16_at =
        |at: usize| u16::from_le_bytes(object[at..at + 2].try_into().expect("as long")) as usize;
    let u64_at =
        |at: usize| u64::from_le_bytes(object[at..at + 8].try_into().expect("as long")) as usize;
    let header = |idx: usize| u64_at(0x28) + 64 * idx;
    let contents = |idx: usize| {
        let (start, bytes) = (u64_at(header(idx) + 24), u64_at(header(idx) + 32));
        &object[start..start + bytes]
    };
    let names = contents(u16_at(0x3e));
    let idx = (0..u16_at(0x3c))
        .find(|idx| {
            let at = u64_at(header(*idx)) & 0xffff_ffff;
            names[at..].starts_with(name.as_bytes()) && names[at + name.len()] == 0
        })
        .unwrap_or_else(|| panic!("no section {name}"));
    contents(idx)
}

fn check<const N: usize>(c_name: &str, size: usize, members: [(&str, usize); N]) {
    let expected = Layout {
        size_bytes: size as u32,
        member_offset_bytes: members
            .into_iter()
            .map(|(name, offset)| (name.to_string(), offset as u32))
            .collect(),
    };
    let mut found = 0;
    for (object_name, object) in objects() {
        if let Some(layout) = btf::struct_layout(elf_section(object, ".BTF"), c_name) {
            assert_eq!(layout, expected, "{c_name} in the object {object_name}");
            found += 1;
        }
    }
    assert!(found > 0, "{c_name} is in no object");
}

macro_rules! check {
    ($c_name:literal, $name:ident { $($member:ident),* $(,)? }) => {
        check(
            $c_name,
            size_of::<abi::$name>(),
            [$((stringify!($member), offset_of!(abi::$name, $member))),*],
        );
    };
}

/// Sizes, member names and offsets are the same on both sides, in every object that has the
/// struct: a field added, renamed or moved on one side only would garble every record.
#[test]
fn layouts_are_the_programs_own() {
    check!("weir_conn_key", ConnKey { sock, inode });
    check!(
        "weir_addresses",
        Addresses {
            local_addr,
            remote_addr,
            local_port,
            remote_port,
            family,
            socket_type,
            opened,
            netns,
            _pad
        }
    );
    check!(
        "weir_socket_record",
        SocketRecord {
            kind,
            payload_bytes,
            time_mono_ns,
            start_boottime_ns,
            cgroup_id,
            pid,
            tid,
            key,
            generation,
            fd,
            addresses,
            position_bytes,
            total_bytes,
            direction,
            flags,
            tail_bytes,
            result,
            unseen_bytes
        }
    );
    check!(
        "weir_process_record",
        ProcessRecord {
            kind,
            exit_code,
            time_mono_ns,
            start_boottime_ns,
            parent_start_boottime_ns,
            cgroup_id,
            pid,
            parent_pid,
            comm,
            payload_bytes,
            cmdline_bytes
        }
    );
}

/// As above, for what steers the programs.
#[test]
fn the_configuration_is_the_programs_own() {
    check!(
        "weir_config",
        Config {
            wake_bytes,
            enabled,
            allow,
            deny,
            sockets,
            filter_generation,
            stop_generation,
            exclusions,
            own_pid,
            own_netns,
            payload_max_bytes,
            tls_generation,
            memos
        }
    );
}

/// As above, for the small ones: keys of maps, names, processes that cannot be seen.
#[test]
fn small_layouts_are_the_programs_own() {
    check!("weir_listener_key", ListenerKey { addr, port, _pad });
    check!("weir_pair_key", PairKey { a_addr, b_addr, a_port, b_port });
    check!("weir_blind_key", BlindKey { pid, reason });
    check!("weir_blind", Blind { times, bytes });
    check!("weir_loss_key", LossKey { conn, generation, socket_type });
    check!("weir_losses", Losses { counts });
    check!("weir_unix_name", UnixName { bytes, name });
    check!(
        "weir_memo",
        Memo { entries, table_bytes, table_bytes_max, block_bytes, encodes, inserted, block }
    );
}

/// Every object is ELF for BPF, aligned for its readers, carries its relocations and a licence
/// that lets it use the tracing helpers.
#[test]
fn objects_are_complete() {
    for (name, object) in objects() {
        assert!(object.starts_with(b"\x7fELF\x02\x01\x01"), "{name}");
        assert_eq!(u16::from_le_bytes([object[18], object[19]]), 247, "{name} is not for BPF");
        assert_eq!(object.as_ptr() as usize % align_of::<u64>(), 0, "{name}");
        assert_eq!(elf_section(object, "license"), b"Dual MIT/GPL\0", "{name}");
        assert!(!elf_section(object, ".BTF.ext").is_empty(), "{name}");
    }
    assert!(!weir_bpf::BUILT_BY.is_empty());
}

/// The marker of the cast function is found in the one object that calls it, and is gone after.
#[test]
fn cast_calls_are_completed() {
    let calls = |object: &[u8], id: u32| {
        let call = (u64::from(id) << 32 | 0x2085).to_le_bytes();
        object.chunks_exact(8).filter(|bytes| **bytes == call).count()
    };
    let object = weir_bpf::syscalls_6_2_object();
    let marked = calls(object, 0x7765_6972);
    assert!(marked > 10, "{marked} calls");
    let completed = weir_bpf::with_cast_function(object, 12_345);
    assert_eq!(calls(&completed, 0x7765_6972), 0);
    assert_eq!(calls(&completed, 12_345), marked);
    assert_eq!(calls(weir_bpf::syscalls_5_15_object(), 0x7765_6972), 0);
}

/// BTF that is cut short or is something else gives nothing, and no panic.
#[test]
fn btf_reader_survives_garbage() {
    let whole = elf_section(weir_bpf::process_object(), ".BTF");
    assert!(btf::struct_layout(whole, "weir_process_record").is_some());
    assert!(btf::function_id(whole, "process_exit").is_some());
    assert_eq!(btf::function_id(whole, "no_such_function"), None);
    for bytes in 0..whole.len() {
        assert_eq!(btf::function_id(&whole[..bytes], "no_such_function"), None);
        let layout = btf::struct_layout(&whole[..bytes], "weir_process_record");
        assert!(layout.is_none_or(|layout| layout.size_bytes == 72));
    }
    assert_eq!(btf::function_id(b"not BTF at all, but long enough for a header", "x"), None);
}

/// Without clang, users get `prebuilt/`: it must come from these sources.
#[test]
fn prebuilt_objects_are_current() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("prebuilt");
    let hash = std::fs::read_to_string(dir.join("x86/SOURCES")).unwrap();
    assert_eq!(hash, env!("WEIR_BPF_SOURCES"), "run WEIR_BPF_UPDATE=1 cargo build -p weir-bpf");
    for arch in ["x86", "arm64"] {
        assert_eq!(std::fs::read_to_string(dir.join(arch).join("SOURCES")).unwrap(), hash);
        for name in ["syscalls_5_8", "syscalls_5_15", "syscalls_6_2", "process"] {
            let object = std::fs::read(dir.join(arch).join(format!("{name}.bpf.o"))).unwrap();
            assert!(object.starts_with(b"\x7fELF"), "{arch}/{name}");
        }
    }
}
