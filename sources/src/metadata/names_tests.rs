//! Naming rules over texts as kernels, shells and container runtimes write them.

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Control group paths as systemd, docker, containerd and cgroup v1 write them.
#[test]
fn names_from_control_groups() {
    let check = |text: &str, container_id: &str, unit: &str, slice: &str| {
        let (container_id, unit, slice) =
            (container_id.to_string(), unit.to_string(), slice.to_string());
        let expected = CgroupNames { container_id, unit, slice, ..CgroupNames::default() };
        assert_eq!(cgroup(text.as_bytes()), expected, "{text}");
    };
    check("0::/\n", "", "", "");
    check("0::/system.slice/nginx.service\n", "", "nginx", "system");
    check("0::/user.slice/user-1000.slice/session-3.scope\n", "", "", "");
    check("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n", "", "", "");
    check(
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service\n",
        "",
        "web",
        "app",
    );
    check(&format!("0::/system.slice/docker-{ID}.scope\n"), ID, "", "");
    check(&format!("4:memory:/docker/{ID}\n0::/\n"), ID, "", "");
    check(&format!("0::/kubepods/podx/cri-containerd-{ID}.scope\n"), ID, "", "");
    check(&format!("0::/kubepods.slice/pod1.slice:cri-containerd:{ID}\n"), ID, "", "");
    check("4:memory:/supervisor/807338de739a72cce75c255780baf49f\n0::/\n", "", "", "");
    check("garbage", "", "", "");
}

/// Containers as Docker, containerd, CRI-O and podman name their groups, by both drivers of runc and both versions
/// of control groups; a container in a container is the one that Kubernetes knows. Catches a monitor that is taken
/// for what it watches, and a node of a cluster in containers that is taken for each of its pods.
#[test]
fn containers_of_runtimes() {
    const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    let check = |path: String, want: &str| {
        let is_pods = path.contains("pod0f6d") && !want.is_empty() && want != OTHER;
        let pod = if is_pods { "0f6d2f8c-8f0a-4c53-9d83-0f2b6f7f2c11" } else { "" };
        for line in [format!("0::{path}\n"), format!("0::/\n4:memory:{path}\n")] {
            let names = cgroup(line.as_bytes());
            assert_eq!(
                (names.container_id.as_str(), names.pod_uid.as_str()),
                (want, pod),
                "{line}"
            );
        }
    };
    let uid = "0f6d2f8c-8f0a-4c53-9d83-0f2b6f7f2c11";
    let slice_uid = uid.replace('-', "_");
    let slices =
        format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice_uid}.slice");
    let plain = format!("/kubepods/burstable/pod{uid}");
    for (path, prefix) in [(&slices, "cri-containerd-"), (&slices, "crio-"), (&slices, "docker-")] {
        check(format!("{path}/{prefix}{ID}.scope"), ID);
        // What is in the container may make groups of its own.
        check(format!("{path}/{prefix}{ID}.scope/system.slice/docker-{OTHER}.scope"), ID);
    }
    check(format!("{plain}/{ID}"), ID);
    check(format!("{plain}/crio-{ID}"), ID);
    check(
        format!(
            "/system.slice/containerd.service/kubepods-besteffort-pod{slice_uid}.slice:cri-containerd:{ID}"
        ),
        ID,
    );
    check(format!("/docker/{ID}"), ID);
    check(format!("/system.slice/docker-{ID}.scope"), ID);
    check(format!("/machine.slice/libpod-{ID}.scope/container"), ID);
    check(
        format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
        ID,
    );
    check(format!("/libpod_parent/libpod-{ID}"), ID);
    // As seen from a control group namespace of its own.
    check(format!("/../../kubepods-besteffort-pod{slice_uid}.slice/cri-containerd-{ID}.scope"), ID);
    check(format!("/../cri-containerd-{ID}.scope"), ID);
    // A node that is a container itself.
    check(
        format!(
            "/docker/{OTHER}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slice_uid}.slice/cri-containerd-{ID}.scope"
        ),
        ID,
    );
    check(format!("/docker/{OTHER}{plain}/{ID}"), ID);
    check(format!("/system.slice/docker-{OTHER}.scope/system.slice/kubelet.service"), OTHER);
    for monitor in [
        format!("{slices}/crio-conmon-{ID}.scope"),
        format!("{plain}/crio-conmon-{ID}"),
        format!("/machine.slice/libpod-conmon-{ID}.scope"),
        format!("{slices}/"),
        format!("/docker/{}", &ID[1..]),
        format!("/docker/{}g", &ID[1..]),
    ] {
        check(monitor, "");
    }
}

/// What runs is named after the script, the module or the jar, else after the executable.
#[test]
fn programs_are_what_an_interpreter_runs() {
    let check = |exe: &str, args: &str, want: &str| {
        let cmdline = args.replace(' ', "\0");
        let executable = executable(exe, cmdline.as_bytes(), "comm");
        assert_eq!(program(&executable, cmdline.as_bytes()), want, "{args}");
    };
    check("/usr/sbin/nginx", "nginx: worker process", "nginx");
    check("/usr/bin/python3.11", "python3 -u /srv/app.py --port 80", "app.py");
    check("/usr/bin/python3.11", "python3 -m http.server 80", "http.server");
    check("/usr/bin/python3.11", "python3 -c pass", "python3.11");
    check("/usr/bin/node", "node --require x.js server.js", "server.js");
    check("/usr/bin/java", "java -Xmx1g -cp a:b org.x.Main arg", "Main");
    check("/usr/bin/java", "java -jar /opt/shop.jar", "shop.jar");
    check("/usr/bin/bash", "bash", "bash");
    check("/usr/bin/bash", "bash /dev/fd/3", "bash");
    check("/memfd:sealed (deleted)", "/opt/tool --x", "tool");
    check("/opt/weir (deleted)", "./weir up", "weir");
    check("", "/bin/thing -x", "thing");
    check("", "", "comm");
}

/// Environment and command line are zero-separated; odd bytes do no harm.
#[test]
fn zero_separated_texts() {
    let text = b"A=1\0OTEL_SERVICE_NAME=shop\0OTEL_SERVICE_NAME_X=no\0";
    assert_eq!(environment(text, "OTEL_SERVICE_NAME").as_deref(), Some("shop"));
    assert_eq!(environment(b"OTEL_SERVICE_NAME=\0", "OTEL_SERVICE_NAME"), None);
    assert_eq!(command_line(b"a\0b c\0\xff\0\0"), "a b c \u{fffd}");
    assert_eq!(command_line(b""), "");
}
