//! Who we say we are to a NATS server, and how a refusal is said. What a server lets whom do is its own matter.

use async_nats::{ConnectError, ConnectErrorKind, ConnectOptions};
use nkeys::{KeyPair, KeyPairType};

/// One way to say it; a login in an address is used without one.
#[derive(Clone, Default)]
pub enum Login {
    #[default]
    None,
    User {
        user: String,
        password: String,
    },
    Token(String),
    /// What a file of credentials holds: a user's JWT, and the seed of its key.
    Credentials(String),
    /// The seed of a user's key.
    Nkey(String),
}

impl Login {
    /// # Errors
    /// The file holds something else.
    pub fn of_credentials(text: String) -> Result<Login, String> {
        match ConnectOptions::with_credentials(&text) {
            Ok(_) => Ok(Login::Credentials(text)),
            Err(_) => Err("the file holds no JWT of a user with its seed".to_string()),
        }
    }

    /// # Errors
    /// It is no seed, or that of a key of something else.
    pub fn of_nkey(seed: &str) -> Result<Login, String> {
        let seed = seed.trim();
        match KeyPair::from_seed(seed) {
            Ok(pair) if pair.key_pair_type() == KeyPairType::User => {
                Ok(Login::Nkey(seed.to_string()))
            }
            _ => Err("it is no seed of a user's key (SU…)".to_string()),
        }
    }

    /// What of it no message may repeat.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        match self {
            Login::None => vec![],
            Login::User { password: secret, .. } | Login::Token(secret) | Login::Nkey(secret) => {
                vec![secret.clone()]
            }
            // Each line is one, besides those that say what the others are.
            Login::Credentials(text) => {
                let lines = text.lines().map(str::trim);
                lines.filter(|line| !line.starts_with(['-', '*'])).map(str::to_string).collect()
            }
        }
    }

    pub(super) fn put(&self, options: ConnectOptions) -> Result<ConnectOptions, String> {
        Ok(match self {
            Login::None => options,
            Login::User { user, password } => {
                options.user_and_password(user.clone(), password.clone())
            }
            Login::Token(token) => options.token(token.clone()),
            Login::Credentials(text) => {
                let wrong = |_| "auth.creds: no JWT of a user with its seed".to_string();
                options.credentials(text).map_err(wrong)?
            }
            Login::Nkey(seed) => options.nkey(seed.clone()),
        })
    }

    fn shown(&self) -> String {
        match self {
            Login::None => "this login, or asks for one (`auth`)".to_string(),
            Login::User { user, .. } => {
                format!("user {} with this password", weir_types::text::line(user))
            }
            Login::Token(_) => "this token".to_string(),
            Login::Credentials(_) => "these credentials (auth.creds)".to_string(),
            Login::Nkey(_) => "this key (auth.nkey)".to_string(),
        }
    }
}

/// Why a login came to nothing, if that is what the error is about.
pub(super) fn refusal(error: &ConnectError, login: &Login) -> Option<String> {
    // Of one that is over the server says so in words of its own.
    let said = weir_types::text::with_causes(error).to_ascii_lowercase();
    let is_login = error.kind() == ConnectErrorKind::AuthorizationViolation
        || said.contains("user authentication");
    is_login.then(|| format!("the server refuses {}", login.shown()))
}
