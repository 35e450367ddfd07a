//! How a session begins: a node asks who serves the bus, and is given a session or told why not. In JSON, which
//! every build can read and which may gain members: so that ends of different builds understand at least this.

use serde::{Deserialize, Serialize};

use super::frame::FRAME_VERSION;
use crate::envelope;

/// Longer names are no names of nodes.
const NODE_NAME_BYTES_MAX: usize = 253;
/// More is no hello.
const HELLO_BYTES_MAX: usize = 4 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) frames: u8,
    pub(super) envelope: u16,
    pub(super) build: String,
    pub(super) name: String,
    pub(super) incarnation: u64,
    pub(super) asid: u32,
    /// It sends its frames where it is told to.
    #[serde(default)]
    pub(super) led: bool,
}

/// What is answered: a session, or why there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Welcome {
    #[serde(default)]
    pub(super) session: u64,
    #[serde(default)]
    pub(super) build: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<Refused>,
    /// The part of subjects below which frames of the node are read, if it is not [`UP`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) up: Option<String>,
}

/// Where frames of nodes go.
pub(super) const UP: &str = "up";

/// The same where they are read by a process of several: by the first one as if it were alone.
pub(super) fn up_of(process: usize) -> String {
    if process == 0 { UP.to_string() } else { format!("{UP}{process}") }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refused {
    pub(super) code: String,
    pub(super) message: String,
}

impl Refused {
    pub(super) fn new(code: &str, message: String) -> Refused {
        Refused { code: code.to_string(), message }
    }
}

/// `[a-zA-Z0-9.-]`, at least one.
#[must_use]
pub fn is_node_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    (1..=NODE_NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_part)
}

/// A node's part of a subject: names have dots, parts have none.
pub(super) fn token(name: &str) -> String {
    name.replace('.', "_")
}

impl Hello {
    pub(super) fn new(name: &str, incarnation: u64, asid: u32) -> Hello {
        Hello {
            frames: FRAME_VERSION,
            envelope: envelope::VERSION,
            build: env!("CARGO_PKG_VERSION").to_string(),
            name: name.to_string(),
            incarnation,
            asid,
            led: true,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Hello> {
        (bytes.len() <= HELLO_BYTES_MAX).then(|| serde_json::from_slice(bytes).ok()).flatten()
    }

    /// Why nobody here could understand this node, whatever it says.
    pub(super) fn refusal(&self) -> Option<Refused> {
        let own = env!("CARGO_PKG_VERSION");
        let Hello { frames, envelope: have, build, name, .. } = self;
        if !is_node_name(name) {
            return Some(Refused::new("name", "this is no name of a node".to_string()));
        }
        let build: String = weir_types::text::line(build).chars().take(64).collect();
        let speaks = |what: &str, have: u64, speak: String| {
            Refused::new(
                "version",
                format!(
                    "the node is weir {build} and speaks version {have} of the bus's {what}, the cluster part \
                     is weir {own} and speaks {speak}: upgrade whichever is older, the cluster part first"
                ),
            )
        };
        if *frames != FRAME_VERSION {
            return Some(speaks("frames", u64::from(*frames), FRAME_VERSION.to_string()));
        }
        if !envelope::is_spoken(*have) {
            let spoken = format!("{} to {}", envelope::VERSION_MIN, envelope::VERSION);
            return Some(speaks("messages", u64::from(*have), spoken));
        }
        None
    }
}

impl Welcome {
    pub(super) fn session(session: u64) -> Welcome {
        let build = env!("CARGO_PKG_VERSION").to_string();
        Welcome { session, build, refused: None, up: None }
    }

    /// Frames of the node are read by this process.
    pub(super) fn read_by(mut self, process: usize) -> Welcome {
        self.up = (process > 0).then(|| up_of(process));
        self
    }

    /// Where frames go, as it was said. What is no such part is not taken.
    pub(super) fn up(&self) -> &str {
        let up = self.up.as_deref();
        let number = |up: &&str| up.strip_prefix(UP).is_some_and(|of| of.parse::<u16>().is_ok());
        up.filter(number).unwrap_or(UP)
    }

    pub(super) fn refused(refused: Refused) -> Welcome {
        Welcome { refused: Some(refused), ..Welcome::session(0) }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Welcome> {
        (bytes.len() <= HELLO_BYTES_MAX).then(|| serde_json::from_slice(bytes).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of both, by which builds of all times understand each other; a build that speaks otherwise is
    /// refused with both versions and what to do; members that are not known are passed over.
    #[test]
    fn golden_text() {
        let hello = Hello { build: "0.1.0".to_string(), ..Hello::new("a.b", 7, 9) };
        let text = format!(
            "{{\"frames\":1,\"envelope\":{},\"build\":\"0.1.0\",\"name\":\"a.b\",\"incarnation\":7,\"asid\":9,\"led\":true}}",
            envelope::VERSION
        );
        assert_eq!(String::from_utf8(hello.encode()).unwrap(), text);
        assert_eq!(hello.refusal(), None);
        let older = Hello::decode(text.replace(",\"led\":true", "").as_bytes());
        assert_eq!(older, Some(Hello { led: false, ..hello.clone() }));
        let newer = text.replace("\"asid\":9", "\"asid\":9,\"later\":[1]");
        assert_eq!(Hello::decode(newer.as_bytes()), Some(hello.clone()));
        let welcome = Welcome { build: "0.1.0".to_string(), ..Welcome::session(3) };
        assert_eq!(welcome.encode(), br#"{"session":3,"build":"0.1.0"}"#);
        assert_eq!((welcome.up(), welcome.clone().read_by(0)), ("up", welcome.clone()));
        let led = welcome.read_by(12);
        assert_eq!(led.encode(), br#"{"session":3,"build":"0.1.0","up":"up12"}"#);
        assert_eq!(led.up(), "up12");
        for strange in ["down", "up.>", "up*", "", "up1.x"] {
            assert_eq!(Welcome { up: Some(strange.to_string()), ..led.clone() }.up(), "up");
        }
        let refused = Welcome::decode(br#"{"refused":{"code":"version","message":"m"}}"#).unwrap();
        assert_eq!(refused.refused, Some(Refused::new("version", "m".to_string())));
        for other in [
            Hello { envelope: 99, build: "9.8.7".to_string(), ..hello.clone() },
            Hello { frames: 99, build: "9.8.7".to_string(), ..hello.clone() },
        ] {
            let refused = other.refusal().unwrap();
            assert_eq!(refused.code, "version");
            for part in ["9.8.7", "99", env!("CARGO_PKG_VERSION"), "upgrade"] {
                assert!(refused.message.contains(part), "{part}: {}", refused.message);
            }
        }
        assert_eq!(Hello::decode(&vec![b' '; HELLO_BYTES_MAX + 1]), None);
    }

    /// Names by the contract, and no two have one part of a subject.
    #[test]
    fn names() {
        for name in ["a", "node-1.eu.example", "A9"] {
            assert!(is_node_name(name), "{name}");
            assert_eq!(token(name).replace('_', "."), name);
        }
        let long = "a".repeat(NODE_NAME_BYTES_MAX + 1);
        for name in ["", "a_b", "a b", "ä", "a*", "a>", long.as_str()] {
            assert!(!is_node_name(name), "{name}");
        }
    }
}
