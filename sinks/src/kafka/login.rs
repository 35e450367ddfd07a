//! Who we say we are to a broker, by SASL, and how a refusal is said. What a broker lets whom do is its own matter.

use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::{Credentials, SaslConfig};

/// How a password is shown to be known; with PLAIN the broker is told it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mechanism {
    #[default]
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

#[derive(Clone)]
pub struct Login {
    pub mechanism: Mechanism,
    pub user: String,
    pub password: String,
}

impl Login {
    pub(super) fn sasl(&self) -> SaslConfig {
        let credentials = Credentials::new(self.user.clone(), self.password.clone());
        match self.mechanism {
            Mechanism::Plain => SaslConfig::Plain(credentials),
            Mechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
            Mechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
        }
    }
}

/// Why a login came to nothing, if that is what the error is about. The client has what several brokers said as one
/// text only.
pub(super) fn refusal(error: &Error, login: Option<&Login>) -> Option<String> {
    let (said, login) = (weir_types::text::with_causes(error), login?);
    let says = |error: ProtocolError| said.contains(&error.to_string());
    let name = login.mechanism.name();
    if says(ProtocolError::SaslAuthenticationFailed) {
        let user = weir_types::text::line(&login.user);
        return Some(format!("the broker refuses user {user} with this password ({name})"));
    }
    if says(ProtocolError::UnsupportedSaslMechanism) || said.contains(NO_MECHANISM) {
        return Some(format!("the broker takes no {name} on this port (auth.mechanism)"));
    }
    says(ProtocolError::IllegalSaslState)
        .then(|| "the broker takes no login on this port, and `auth` has one".to_string())
}

/// As the client says it of itself.
const NO_MECHANISM: &str = "unsupported sasl mechanism";
