//! How a process without Kubernetes is named, from what `/proc` says about it. Pure.
//!
//! | name | first that there is |
//! |---|---|
//! | service | `OTEL_SERVICE_NAME` of its environment; the compose service of its container; the systemd unit (`nginx.service` → `nginx`); the program |
//! | namespace | the compose project of its container; the slice of its systemd unit (`system.slice` → `system`); `local` |
//! | program | what an interpreter runs (`python3 app.py` → `app.py`, `python3 -m http.server` → `http.server`, `java -jar a.jar` → `a.jar`, `java org.x.Main` → `Main`); the executable's base name |
//! | pod | `namespace/executable-pid` |
//!
//! A login session (`session-3.scope`) and a user manager (`user@1000.service`) are nobody's
//! deployment: processes in there are `local`.

use std::path::Path;

/// Longest name that is taken from an environment or an argument.
const NAME_BYTES_MAX: usize = 200;

/// What the control groups of a process say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CgroupNames {
    pub(super) container_id: String,
    /// Of the pod of Kubernetes that the container is in; empty where it is in none.
    pub(crate) pod_uid: String,
    /// Systemd unit without `.service`.
    pub(super) unit: String,
    /// The slice that the unit is in, without `.slice`.
    pub(super) slice: String,
}

/// From `/proc/PID/cgroup`: `id:controllers:path`, one line a hierarchy.
pub(crate) fn cgroup(text: &[u8]) -> CgroupNames {
    let mut names = CgroupNames::default();
    for line in String::from_utf8_lossy(text).lines() {
        let Some(path) = line.splitn(3, ':').nth(2) else { continue };
        if names.container_id.is_empty() {
            names.container_id = container_in(path).unwrap_or_default().to_string();
            // What is beside the containers is not in the pod.
            if !names.container_id.is_empty() {
                names.pod_uid = path.split(['/', ':']).find_map(pod_uid).unwrap_or_default();
            }
        }
        let mut slice = "";
        for part in path.split('/') {
            if let Some(name) = part.strip_suffix(".slice") {
                slice = name;
            }
            let unit = part.strip_suffix(".service").filter(|name| !name.starts_with("user@"));
            if let Some(name) = unit {
                // The innermost unit of a path; the first hierarchy that has one.
                if names.unit.is_empty() || path.contains(&format!("/{}.service/", names.unit)) {
                    names.unit = name.to_string();
                    names.slice = slice.to_string();
                }
            }
        }
    }
    names
}

/// The container that a path leads to: the outermost, whatever runs in it; below Kubernetes' own groups, which
/// may be in a container themselves, the outermost there.
fn container_in(path: &str) -> Option<&str> {
    let of_pods = path.split('/').skip_while(|part| !part.contains("kubepods"));
    let mut parts = of_pods.chain(path.split('/'));
    parts.find_map(container_id)
}

/// `docker-<64 hex>.scope`, `cri-containerd-<64 hex>.scope`, `<slice>:cri-containerd:<64 hex>`, `crio-<64 hex>`,
/// `libpod-<64 hex>.scope`, `<64 hex>`, … What watches a container (`crio-conmon-<64 hex>.scope`) is not in it.
fn container_id(part: &str) -> Option<&str> {
    const ID_LENGTH: usize = 64;
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let (before, id) = part.rsplit_once(['-', ':']).unwrap_or(("", part));
    let is_id = id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_monitor = before.rsplit(['-', ':']).next() == Some("conmon");
    (is_id && !is_monitor).then_some(id)
}

/// `pod<uid>`, or `kubepods-burstable-pod<uid>.slice` with `_` for each `-` of the uid.
fn pod_uid(part: &str) -> Option<String> {
    const UID_LENGTH: usize = 36;
    let part = part.strip_suffix(".slice").unwrap_or(part);
    let (before, uid) = part.split_at_checked(part.len().checked_sub(UID_LENGTH)?)?;
    let is_pods = before == "pod" || (before.contains("kubepods") && before.ends_with("-pod"));
    let is_uid = |(idx, byte): (usize, u8)| match idx {
        8 | 13 | 18 | 23 => matches!(byte, b'-' | b'_'),
        _ => byte.is_ascii_hexdigit(),
    };
    (is_pods && uid.bytes().enumerate().all(is_uid)).then(|| uid.replace('_', "-"))
}

/// The value of a variable in `/proc/PID/environ` (`NAME=value`, separated by zero bytes).
pub(super) fn environment(text: &[u8], name: &str) -> Option<String> {
    text.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        let value = String::from_utf8_lossy(value).trim().to_string();
        (!value.is_empty() && value.len() <= NAME_BYTES_MAX).then_some(value)
    })
}

/// `/proc/PID/cmdline` as people write it: arguments separated by blanks.
pub(super) fn command_line(text: &[u8]) -> String {
    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let text: Vec<u8> =
        text[..end].iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
    String::from_utf8_lossy(&text).trim_end().to_string()
}

/// The executable's base name: of the file, else of the first argument, else the kernel's name.
pub(super) fn executable(exe: &str, cmdline: &[u8], comm: &str) -> String {
    let exe = exe.strip_suffix(" (deleted)").unwrap_or(exe);
    // A program in an anonymous file has no name of its own.
    let exe = if exe.starts_with("/memfd:") { "" } else { exe };
    let first = cmdline.split(|byte| *byte == 0).next().unwrap_or(&[]);
    let first = String::from_utf8_lossy(first).into_owned();
    [exe, first.as_str(), comm]
        .into_iter()
        .map(base_name)
        .find(|name| !name.is_empty())
        .unwrap_or_default()
}

fn base_name(path: &str) -> String {
    let name = Path::new(path.trim()).file_name().and_then(|name| name.to_str()).unwrap_or("");
    name.to_string()
}

/// What the process runs: a script or a module if the executable is an interpreter.
pub(super) fn program(executable: &str, cmdline: &[u8]) -> String {
    let args: Vec<String> = cmdline
        .split(|byte| *byte == 0)
        .skip(1)
        .map(|arg| String::from_utf8_lossy(arg).into_owned())
        .collect();
    let stem = executable.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let found = match stem {
        "python" | "pypy" => {
            interpreted(&args, &["-W", "-X", "--check-hash-based-pycs"], "-m", "-c")
        }
        "node" | "nodejs" | "bun" => interpreted(&args, &["-r", "--require", "--import"], "", "-e"),
        "ruby" | "perl" => interpreted(&args, &["-I", "-r"], "", "-e"),
        "php" => interpreted(&args, &["-d", "-c"], "", "-r"),
        "sh" | "bash" | "dash" | "zsh" | "ksh" => interpreted(&args, &["-o", "-O"], "", "-c"),
        "java" => java(&args),
        _ => None,
    };
    // A script on a descriptor (`/dev/fd/3`) has no name.
    let is_name = |name: &String| name.bytes().any(|byte| !byte.is_ascii_digit());
    found.filter(is_name).unwrap_or_else(|| executable.to_string())
}

/// The first argument that is no option: `with_value` options take the next one as well, `module`
/// names what is run, behind `inline` comes program text.
fn interpreted(args: &[String], with_value: &[&str], module: &str, inline: &str) -> Option<String> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == inline {
            return None;
        }
        if !module.is_empty() && arg == module {
            return args.next().map(|name| name.chars().take(NAME_BYTES_MAX).collect());
        }
        if with_value.contains(&arg.as_str()) {
            args.next();
        } else if !arg.starts_with('-') {
            return Some(base_name(arg));
        }
    }
    None
}

fn java(args: &[String]) -> Option<String> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-jar" => return args.next().map(|jar| base_name(jar)),
            "-cp" | "-classpath" | "--class-path" | "-p" | "--module-path" | "--add-opens"
            | "--add-exports" | "--add-modules" => {
                args.next();
            }
            "-m" | "--module" => {
                let module = args.next()?;
                return Some(module.rsplit(['/', '.']).next()?.to_string());
            }
            option if option.starts_with('-') || option.starts_with('@') => {}
            source if source.ends_with(".java") => return Some(base_name(source)),
            class => return Some(class.rsplit('.').next()?.to_string()),
        }
    }
    None
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
