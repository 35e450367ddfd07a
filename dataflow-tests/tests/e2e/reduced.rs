//! Machines that lack something: the server says what, and does what it still can.

use std::process::Command;
use std::time::Duration;

use weir_dataflow_tests::harness::put;
use weir_dataflow_tests::harness::weir::{Weir, binary, output_of};

const DEADLINE: Duration = Duration::from_secs(60);
const MESSAGE: &str = "the kernel has no type information at /sys/kernel/btf/vmlinux";

/// A command that becomes the binary in a mount namespace where the kernel shows no BTF; `None`
/// (said on stderr) where we may not make one.
fn without_btf() -> Option<Command> {
    let script = "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"";
    let unshare = ["--mount", "--propagation", "private", "sh", "-c", script, "sh"];
    let allowed = Command::new("unshare").args(unshare).arg("true").output();
    if !allowed.as_ref().is_ok_and(|output| output.status.success()) {
        weir_types::testing::skipped(format!("cannot hide the kernel's BTF here: {allowed:?}"));
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(unshare).arg(binary().unwrap());
    Some(command)
}

/// On a kernel without BTF the server starts, says why it does not capture, and serves the process
/// tables; asking for HTTP is refused with a reason, not answered with nothing. Catches programs that are loaded with
/// wrong offsets because nobody looked, and a server that gives up.
#[test]
fn a_kernel_without_btf_is_told_and_reduced() {
    let Some(command) = without_btf() else { return };
    let weir = Weir::start_by(command, &[]).unwrap();
    let said = weir.log().into_iter().any(|line| line.contains(MESSAGE) && line.contains("ebpf"));
    assert!(said, "{:?}", weir.log());
    let stats = weir.stats().unwrap();
    assert_eq!(stats["sources"]["ebpf"]["state"], "refused", "{stats}");
    let reason = stats["sources"]["ebpf"]["reason"].as_str().unwrap_or_default().to_string();
    assert!(reason.contains(MESSAGE), "{stats}");
    assert_eq!(stats["sources"]["proc"]["state"], "running", "{stats}");

    let dir = tempfile::tempdir().unwrap();
    let script = |name: &str, table: &str| {
        let text = format!(
            "import px\n\
             df = px.DataFrame('{table}', start_time='-10m')\n\
             df.pid = px.upid_to_pid(df.upid)\n\
             df = df.groupby('pid').agg(n=('upid', px.count))\n\
             px.display(df, 'processes')\n"
        );
        put(dir.path(), name, &text)
    };
    let mut live =
        weir.live(&script("process.pxl", "process_stats"), &["--refresh", "200ms"]).unwrap();
    let own = i64::from(weir.pid());
    live.wait_for(DEADLINE, |view| {
        view.rows("processes").iter().any(|(row, _)| row["pid"].as_i64() == Some(own))
    })
    .unwrap();
    let http = weir.run(&["run", &script("http.pxl", "http_events"), "-o", "json"], DEADLINE);
    let http = http.unwrap();
    assert_eq!(http.status.code(), Some(1), "{http:?}");
    let told = http.stderr.join("\n").contains("no source on this server produces `http_events`");
    assert!(told && http.stdout.is_empty(), "{http:?}");
}

/// `weir doctor` on that kernel names the reason once, and what to do instead.
#[test]
fn doctor_names_the_missing_btf() {
    let Some(mut command) = without_btf() else { return };
    command.args(["doctor", "-o", "json"]);
    let doctor = output_of(command, DEADLINE).unwrap();
    let report = doctor.json_lines().into_iter().next().unwrap();
    assert_eq!(report["can_capture"], false, "{report}");
    let checks = report["checks"].as_array().unwrap();
    let ebpf: Vec<_> = checks.iter().filter(|check| check["name"] == "ebpf").collect();
    assert_eq!(ebpf.len(), 1, "{report}");
    assert_eq!(ebpf[0]["ok"], false);
    assert!(ebpf[0]["detail"].as_str().unwrap().contains(MESSAGE), "{report}");
    let hint = report["hint"].as_str().unwrap();
    assert!(
        !hint.contains("sudo") && hint.contains("/proc"),
        "root is not what is missing: {hint}"
    );
    assert!(checks.iter().any(|check| check["name"] == "proc" && check["ok"] == true), "{report}");
}
