//! Compiles `programs/*/*.bpf.c` with clang; without clang takes `prebuilt/<arch>/`, if its sources
//! are the ones here.
//!
//! `BPF_CLANG` names a compiler command (it may have arguments: "python3 -m ziglang cc").
//! `WEIR_BPF=clang` or `=prebuilt` forces one way. `WEIR_BPF_UPDATE=1` rewrites `prebuilt/` for all
//! architectures: to be done, and committed, with every change of the C sources.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Object, source, and the flags that tell it from other objects of the same source.
const OBJECTS: [(&str, &str, &[&str]); 4] = [
    ("syscalls_5_8.bpf.o", SYSCALLS, &["-mcpu=v2"]),
    ("syscalls_5_15.bpf.o", SYSCALLS, &["-mcpu=v3", "-DWEIR_TASK_LOADS"]),
    ("syscalls_6_2.bpf.o", SYSCALLS, &["-mcpu=v3", "-DWEIR_TASK_LOADS", "-DWEIR_CASTS"]),
    ("process.bpf.o", "programs/process/process.bpf.c", &["-mcpu=v2"]),
];
const SYSCALLS: &str = "programs/syscalls/syscalls.bpf.c";
const FLAGS: [&str; 6] = ["-g", "-O2", "-Wall", "-Werror", "-Iinclude", "-c"];
const SOURCE_DIRS: [&str; 3] = ["include", "maps", "programs"];
const CLANG_VERSIONS: std::ops::RangeInclusive<u32> = 14..=23;
/// As the kernel's headers name architectures.
const ARCHS: [(&str, &str); 2] = [("x86_64", "x86"), ("aarch64", "arm64")];

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let target = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    let Some((_, arch)) = ARCHS.iter().find(|(rust, _)| *rust == target) else {
        panic!("no eBPF programs for {target}");
    };
    for dir in SOURCE_DIRS {
        println!("cargo:rerun-if-changed={}", root.join(dir).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    // Not the path: it differs from shell to shell, and half of the workspace would be built anew each time. What a
    // clang that is installed later makes of these sources is what was made of them beforehand.
    for name in ["WEIR_BPF", "WEIR_BPF_UPDATE", "BPF_CLANG"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let mode = env::var("WEIR_BPF").unwrap_or_default();
    assert!(
        ["", "clang", "prebuilt"].contains(&mode.as_str()),
        "WEIR_BPF is {mode:?}: clang and prebuilt are the choices"
    );
    let hash = source_hash(&root);
    let clang = if mode == "prebuilt" { None } else { find_clang(&out) };
    let built_by = match &clang {
        Some(clang) => {
            for object in OBJECTS {
                compile(clang, &root, arch, object, &out.join(object.0));
            }
            if env::var_os("WEIR_BPF_UPDATE").is_some() {
                update_prebuilt(clang, &root, &hash);
            }
            clang.join(" ")
        }
        None => {
            assert!(
                mode != "clang",
                "WEIR_BPF=clang, but no clang with a bpf backend was found: apt install clang"
            );
            take_prebuilt(&root, arch, &hash, &out);
            format!("prebuilt/{arch}")
        }
    };
    println!("cargo:rustc-env=WEIR_BPF_BUILT_BY={built_by}");
    println!("cargo:rustc-env=WEIR_BPF_SOURCES={hash}");
}

/// Compiling a line is the only honest test: some distributions' clang has no bpf backend.
fn find_clang(out: &Path) -> Option<Vec<String>> {
    let candidates: Vec<Vec<String>> = match env::var("BPF_CLANG") {
        Ok(command) => vec![command.split_whitespace().map(String::from).collect()],
        Err(_) => std::iter::once("clang".to_string())
            .chain(CLANG_VERSIONS.rev().map(|version| format!("clang-{version}")))
            .map(|name| vec![name])
            .collect(),
    };
    let source = out.join("probe.c");
    fs::write(&source, "int x;\n").expect("OUT_DIR is writable");
    candidates.into_iter().find(|command| {
        command.first().is_some_and(|program| {
            Command::new(program)
                .args(&command[1..])
                .args(target_flags(command))
                .arg("-c")
                .arg(&source)
                .arg("-o")
                .arg(out.join("probe.o"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        })
    })
}

fn target_flags(command: &[String]) -> &'static [&'static str] {
    if command.iter().any(|part| part.contains("zig")) {
        &["-target", "bpfel-freestanding-none", "-fno-sanitize=all"]
    } else {
        &["-target", "bpfel"]
    }
}

/// With relative paths: they end up in the object, which must not tell where it was built.
fn compile(clang: &[String], root: &Path, arch: &str, object: (&str, &str, &[&str]), to: &Path) {
    let (name, source, flags) = object;
    let status = Command::new(&clang[0])
        .args(&clang[1..])
        .args(target_flags(clang))
        .args(FLAGS)
        .args(flags)
        .arg(format!("-D__TARGET_ARCH_{arch}"))
        .arg(format!("-ffile-prefix-map={}=.", root.display()))
        .arg(source)
        .arg("-o")
        .arg(to)
        .current_dir(root)
        .status()
        .expect("it ran a moment ago");
    assert!(status.success(), "{} could not build {name} from bpf/{source}", clang.join(" "));
}

fn update_prebuilt(clang: &[String], root: &Path, hash: &str) {
    for (_, arch) in ARCHS {
        let dir = root.join("prebuilt").join(arch);
        fs::create_dir_all(&dir).expect("the source folder is writable");
        for object in OBJECTS {
            let to = dir.join(object.0);
            compile(clang, root, arch, object, &to);
            let stripped = Command::new("llvm-strip").arg("-g").arg(&to).status();
            assert!(
                stripped.is_ok_and(|status| status.success()),
                "WEIR_BPF_UPDATE=1 needs llvm-strip: apt install llvm"
            );
        }
        fs::write(dir.join("SOURCES"), hash).expect("the source folder is writable");
    }
}

fn take_prebuilt(root: &Path, arch: &str, hash: &str, out: &Path) {
    let dir = root.join("prebuilt").join(arch);
    println!("cargo:rerun-if-changed={}", dir.display());
    let built_from = fs::read_to_string(dir.join("SOURCES")).unwrap_or_default();
    assert!(
        built_from.trim() == hash,
        "no clang with a bpf backend was found, and bpf/prebuilt/{arch} was built from other \
         sources ({built_from} instead of {hash}): install clang 14 or later (apt install clang), \
         or name one in BPF_CLANG"
    );
    for (name, _, _) in OBJECTS {
        let from = dir.join(name);
        fs::copy(&from, out.join(name))
            .unwrap_or_else(|error| panic!("could not copy {}: {error}", from.display()));
    }
}

/// FNV-1a over names, contents and flags: it tells sources apart, it is no protection.
fn source_hash(root: &Path) -> String {
    let mut files = Vec::new();
    for dir in SOURCE_DIRS {
        list(&root.join(dir), &mut files);
    }
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes.iter().chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for file in files {
        let name = file.strip_prefix(root).expect("it was found there");
        add(name.as_os_str().as_encoded_bytes());
        add(&fs::read(&file).expect("it was found there"));
    }
    for flag in FLAGS.iter().chain(OBJECTS.iter().flat_map(|(_, _, flags)| *flags)) {
        add(flag.as_bytes());
    }
    format!("{hash:016x}")
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("could not read {}: {error}", dir.display()))
        .map(|entry| entry.expect("the folder was readable").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            list(&path, files);
        } else {
            files.push(path);
        }
    }
}
