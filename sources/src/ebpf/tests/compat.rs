//! A program of 32 bits, whose system calls have no tracepoints.

use std::process::Command;

use super::*;

/// Without a C library, so that no compiler needs the 32-bit one: the listening socket is descriptor 0.
const SERVER: &str = r#"
static long call(long number, long a, long b, long c, long d) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
    return result;
}
static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
static char request[512];
void _start(void) {
    long server = call(364, 0, 0, 0, 0); /* accept4 */
    long got = call(3, server, (long)request, sizeof(request), 0); /* read */
    long sent = call(4, server, (long)answer, sizeof(answer) - 1, 0); /* write */
    call(1, !(got > 0 && sent > 0), 0, 0, 0); /* exit */
}
"#;

/// A 32-bit server answers one request: its socket and bytes are counted, and its process is named with
/// the reason. Catches a server that gives neither rows nor a count.
fn check_compat(build: Build) {
    if !cfg!(target_arch = "x86_64") {
        return; // the program is for its system calls
    }
    let dir = std::env::temp_dir().join(format!("weir-compat-{}-{build:?}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (source_file, program) = (dir.join("server.c"), dir.join("server"));
    std::fs::write(&source_file, SERVER).unwrap();
    let built = Command::new("cc")
        .args([
            "-m32",
            "-nostdlib",
            "-static",
            "-ffreestanding",
            "-fno-pic",
            "-fno-stack-protector",
        ])
        .arg(&source_file)
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let listener = listen();
    let address = listener.local_addr().unwrap();
    let config = EbpfConfig { build, ..follow_port(address.port()) };
    let Some(source) = start(&config) else { return };
    let mut client = TcpStream::connect(address).unwrap();
    let mut server =
        Command::new(&program).stdin(std::os::fd::OwnedFd::from(listener)).spawn().unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(server.wait().unwrap().success());
    let named = source.blind();
    let found = named.iter().find(|process| process.pid == server.id());
    let found = found.unwrap_or_else(|| panic!("not named: {named:?}"));
    assert_eq!(found.reason, super::super::BlindReason::Compat32);
    assert_eq!((found.times, found.bytes), (1, 18 + answer.len() as u64));
    assert_eq!(source.counters().compat_bytes, found.bytes);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn programs_of_32_bits_are_counted_and_named() {
    check_compat(Build::Linux6_2);
}

#[test]
fn programs_of_32_bits_are_counted_and_named_on_5_8() {
    check_compat(Build::Linux5_8);
}
