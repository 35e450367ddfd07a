//! Things that must be there and current: the parts of each protocol, the built page, the prebuilt
//! eBPF objects.

use std::process::Command;

use super::files;

/// Every protocol has the same parts, so that the next one is written by imitation, and a fuzz
/// target, so that wire bytes cannot end the process.
#[test]
fn protocols_are_whole() {
    let paths = files::with_extension(&["rs"]);
    let has = |path: &str| paths.iter().any(|have| have == path);
    let mut wrong = Vec::new();
    let names = protocols(&paths);
    assert!(!names.is_empty(), "no protocol was found");
    for name in names {
        let base = format!("sources/protocols/src/{name}");
        for part in ["types", "parse", "stitch", "table", "tests"] {
            if !has(&format!("{base}/{part}.rs")) && !has(&format!("{base}/{part}/mod.rs")) {
                wrong.push(format!("{base} has no {part}"));
            }
        }
        let fuzz = format!("sources/protocols/fuzz/fuzz_targets/{name}.rs");
        if !has(&fuzz) {
            wrong.push(format!("{name} has no fuzz target {fuzz}"));
            continue;
        }
        // They are built by whoever fuzzes only: a call of what is not there would be seen late.
        let driven = format!("weir_protocols_fuzz::drive(\"{name}\", input)");
        let (text, is_own) = (files::read(&fuzz), name == "http1");
        if !is_own && !text.contains(&driven) {
            wrong.push(format!("{fuzz} does not call {driven}"));
        }
    }
    files::assert_none("protocols without a part", &wrong);
}

/// What tracks connections, makes rows of them and runs sources names no protocol: to add one touches
/// its folder and a line of the list. Catches a special case for one of them.
#[test]
fn nobody_names_a_protocol() {
    let names = protocols(&files::with_extension(&["rs"]));
    let mut wrong = Vec::new();
    for path in files::with_extension(&["rs"]) {
        let tracks = path.starts_with("sources/src/conn/") || path == "sources/src/socket.rs";
        if !tracks && !path.starts_with("node/src/sources") {
            continue;
        }
        for (number, line) in super::text::code_lines(&files::read(&path)) {
            let lower = line.to_lowercase();
            let is_named = |name: &String| {
                let word = name.trim_end_matches(|c: char| c.is_ascii_digit());
                lower.contains(&format!("{word}_events"))
                    || lower.contains(&format!("protocols::{name}"))
                    || (tracks && lower.contains(word))
            };
            if names.iter().any(is_named) {
                wrong.push(format!("{path}:{number}: {line}"));
            }
        }
    }
    files::assert_none("protocols named outside of their folders", &wrong);
}

/// The folders below `sources/protocols/src`, but for the one that all protocols use.
fn protocols(paths: &[String]) -> Vec<String> {
    let mut names: Vec<String> = paths
        .iter()
        .filter_map(|path| path.strip_prefix("sources/protocols/src/"))
        .filter_map(|rest| rest.split_once('/').map(|(name, _)| name.to_string()))
        .filter(|name| name != "redact")
        // What has a file of its own name beside it is a part of what all share.
        .filter(|name| !paths.contains(&format!("sources/protocols/src/{name}.rs")))
        .collect();
    names.dedup();
    names
}

/// The committed page is the one that its sources give: `ui/dist.sha256` lists every source and
/// every built file.
#[test]
fn page_is_current() {
    let check = Command::new("sha256sum")
        .args(["--check", "--quiet", "--strict", "dist.sha256"])
        .current_dir(files::root().join("ui"))
        .output()
        .expect("coreutils has sha256sum");
    let said = [check.stdout, check.stderr].concat();
    assert!(
        check.status.success(),
        "ui/dist is not what its sources give: run `npm run build` in ui/\n{}",
        String::from_utf8_lossy(&said)
    );
    let listed = files::read("ui/dist.sha256");
    let wrong: Vec<String> = files::with_extension(&["ts", "tsx", "css"])
        .into_iter()
        .filter_map(|path| path.strip_prefix("ui/").map(str::to_string))
        .filter(|path| path.starts_with("src/") && !path.ends_with(".test.ts"))
        .filter(|path| !listed.lines().any(|line| line.ends_with(&format!("  {path}"))))
        .collect();
    files::assert_none("sources that dist.sha256 does not know", &wrong);
}

/// The committed objects were built from the C sources here, for every architecture: a machine
/// without clang runs what it reads. The hash is the build script's: names, contents, flags.
#[test]
fn prebuilt_objects_are_current() {
    let script = files::read("bpf/build.rs");
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes.iter().chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    let root = files::root().join("bpf");
    for dir in ["include", "maps", "programs"] {
        for path in files::all_below(&root.join(dir)) {
            let name = path.strip_prefix(&root).expect("below bpf");
            add(name.as_os_str().as_encoded_bytes());
            add(&std::fs::read(&path).expect("a file"));
        }
    }
    let objects = constant(&script, "OBJECTS");
    let object_flags = objects
        .split("&[")
        .skip(1)
        .flat_map(|rest| quoted(rest.split(']').next().unwrap_or_default()));
    for flag in quoted(constant(&script, "FLAGS")).into_iter().chain(object_flags) {
        add(flag.as_bytes());
    }
    for arch in ["x86", "arm64"] {
        let built_from = files::read(&format!("bpf/prebuilt/{arch}/SOURCES"));
        assert_eq!(
            built_from.trim(),
            format!("{hash:016x}"),
            "bpf/prebuilt/{arch} is stale: WEIR_BPF_UPDATE=1 cargo build -p weir-bpf"
        );
    }
}

/// The value of a constant of the build script, as text.
fn constant<'a>(script: &'a str, name: &str) -> &'a str {
    let start = script.find(&format!("const {name}:")).expect("a constant of the build script");
    let value = &script[start..];
    let value = &value[value.find('=').expect("it has a value")..];
    &value[..value.find("];").expect("it is an array")]
}

fn quoted(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).collect()
}
