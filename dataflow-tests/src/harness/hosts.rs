//! Machines of our own making: network namespaces, each with a link to this one, whose packets can be dropped. All of
//! it goes with the value that stands for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use super::{HarnessError, Result};

/// A namespace with an address of its own. This machine is the other end of its link.
pub struct Host {
    name: String,
    link: String,
    /// Of the namespace.
    pub ip: Ipv4Addr,
    /// Of this machine, as the namespace sees it.
    pub here: Ipv4Addr,
}

/// True if this machine lets us make namespaces and drop packets in them.
#[must_use]
pub fn can_make() -> bool {
    let made = Host::new(250);
    made.is_ok_and(|host| host.drop_percent(1).is_ok())
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let output = command
        .output()
        .map_err(|source| HarnessError::Start { program: program.to_string(), source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(HarnessError::EndedEarly {
        program: format!("{program} {}", args.join(" ")),
        status: output.status,
        output: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

impl Host {
    /// `number`: up to 250, one of this process's.
    pub fn new(number: u8) -> Result<Host> {
        let id = std::process::id() % 100_000;
        let host = Host {
            name: format!("weir{id}-{number}"),
            link: format!("w{id}-{number}"),
            ip: Ipv4Addr::new(10, 213, number, 2),
            here: Ipv4Addr::new(10, 213, number, 1),
        };
        let Host { name, link, ip, here } = &host;
        let (ip, here) = (format!("{ip}/30"), format!("{here}/30"));
        run("ip", &["netns", "add", name])?;
        run("ip", &["link", "add", link, "type", "veth", "peer", "name", "up0", "netns", name])?;
        run("ip", &["address", "add", &here, "dev", link])?;
        run("ip", &["link", "set", link, "up"])?;
        run("ip", &["-n", name, "address", "add", &ip, "dev", "up0"])?;
        run("ip", &["-n", name, "link", "set", "up0", "up"])?;
        run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        Ok(host)
    }

    /// A command that runs there.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    fn nft(&self, what: &str) -> Result<()> {
        run("ip", &["netns", "exec", &self.name, "nft", what])
    }

    /// Of all packets so many are dropped, either way: 100 cuts the machine off, and nobody is told; 0 mends it.
    pub fn drop_percent(&self, percent: u32) -> Result<()> {
        self.nft("add table inet faults")?;
        self.nft("flush ruleset")?;
        if percent == 0 {
            return Ok(());
        }
        self.nft("add table inet faults")?;
        let some = match percent {
            100.. => String::new(),
            percent => format!("numgen random mod 100 < {percent} "),
        };
        for (chain, device) in [("input", "iifname"), ("output", "oifname")] {
            self.nft(&format!(
                "add chain inet faults {chain} {{ type filter hook {chain} priority 0; }}"
            ))?;
            self.nft(&format!("add rule inet faults {chain} {device} up0 {some}drop"))?;
        }
        Ok(())
    }

    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.ip, port))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(run("ip", &["link", "del", &self.link]));
        drop(run("ip", &["netns", "del", &self.name]));
    }
}
