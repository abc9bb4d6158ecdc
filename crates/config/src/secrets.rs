//! `${env:NAME}` and `${file:PATH}`: secrets stay out of the configuration file.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use bartizan_model::Secret;

use crate::agents::AgentAuth;
use crate::diagnostic::Diagnostic;
use crate::environment::Environment;
use crate::resources::{AuthConfig, Resources};

/// In place of what could not be resolved, and was reported.
pub const UNRESOLVED: &str = "unresolved";
/// Largest secret file, 64 KiB.
const FILE_LIMIT: u64 = 64 << 10;

/// Resolved values by the path of the place they were written in:
/// `servers[0].auth_credentials`, `servers[0].command.env.API_KEY`.
#[derive(Default)]
pub struct Secrets(BTreeMap<String, Secret<String>>);

impl Secrets {
    /// The value of a path, if a value was written there.
    pub fn get(&self, path: &str) -> Option<&Secret<String>> {
        self.0.get(path)
    }

    /// Every value, for what must not show any.
    pub fn values(&self) -> impl Iterator<Item = &Secret<String>> {
        self.0.values()
    }

    /// The resources with every reference replaced by its value. The result holds secrets:
    /// it is compiled at once and never written anywhere. What could not be resolved, and
    /// was reported, is replaced by a word that passes further checks.
    pub fn fill(&self, resources: &Resources) -> Resources {
        let mut filled = resources.clone();
        let value = |path: &str| self.get(path).map_or(UNRESOLVED, |secret| secret.expose()).to_owned();
        for (index, server) in filled.servers.iter_mut().enumerate() {
            if let Some(text) = &mut server.auth_credentials {
                *text = value(&format!("servers[{index}].auth_credentials"));
            }
            for (name, text) in server.auth_config.iter_mut().flat_map(AuthConfig::secrets_mut) {
                *text = value(&format!("servers[{index}].auth_config.{name}"));
            }
            for (name, text) in server.command.iter_mut().flat_map(|command| &mut command.env) {
                *text = value(&format!("servers[{index}].command.env.{name}"));
            }
        }
        for (index, provider) in filled.identity_providers.iter_mut().enumerate() {
            if let Some(text) = &mut provider.client_secret {
                *text = value(&format!("identity_providers[{index}].client_secret"));
            }
        }
        for (index, destination) in filled.alerts.destinations.iter_mut().enumerate() {
            if let Some(webhook) = &mut destination.webhook {
                webhook.secret = value(&format!("alerts.destinations[{index}].webhook.secret"));
            }
            if let Some(text) = destination.email.as_mut().and_then(|email| email.password.as_mut()) {
                *text = value(&format!("alerts.destinations[{index}].email.password"));
            }
        }
        for (index, client) in filled.clients.iter_mut().enumerate() {
            if let Some(text) = &mut client.client_secret {
                *text = value(&format!("clients[{index}].client_secret"));
            }
        }
        for (index, agent) in filled.agents.iter_mut().enumerate() {
            if let AgentAuth::ClientSecret(text) = &mut agent.auth {
                *text = value(&format!("agents[{index}].auth.client_secret"));
            }
        }
        filled
    }

    /// Resolves every secret of the resources. `base` is the folder relative paths start from.
    /// What cannot be resolved is reported, all of it.
    pub fn resolve(resources: &Resources, environment: &Environment, base: &Path) -> (Self, Vec<Diagnostic>) {
        let (mut found, mut problems) = (Self::default(), Vec::new());
        let mut take = |path: String, text: &str| match expand(text, environment, base) {
            Ok(value) => {
                found.0.insert(path, value);
            }
            Err(error) => problems.push(error.diagnostic(&path)),
        };
        for (index, server) in resources.servers.iter().enumerate() {
            if let Some(text) = &server.auth_credentials {
                take(format!("servers[{index}].auth_credentials"), text);
            }
            for (name, text) in server.auth_config.iter().flat_map(AuthConfig::secrets) {
                take(format!("servers[{index}].auth_config.{name}"), text);
            }
            for (name, text) in server.command.iter().flat_map(|command| &command.env) {
                take(format!("servers[{index}].command.env.{name}"), text);
            }
        }
        for (index, provider) in resources.identity_providers.iter().enumerate() {
            if let Some(text) = &provider.client_secret {
                take(format!("identity_providers[{index}].client_secret"), text);
            }
        }
        for (index, destination) in resources.alerts.destinations.iter().enumerate() {
            if let Some(webhook) = &destination.webhook {
                take(format!("alerts.destinations[{index}].webhook.secret"), &webhook.secret);
            }
            if let Some(text) = destination.email.as_ref().and_then(|email| email.password.as_ref()) {
                take(format!("alerts.destinations[{index}].email.password"), text);
            }
        }
        for (index, client) in resources.clients.iter().enumerate() {
            if let Some(text) = &client.client_secret {
                take(format!("clients[{index}].client_secret"), text);
            }
        }
        for (index, agent) in resources.agents.iter().enumerate() {
            if let AgentAuth::ClientSecret(text) = &agent.auth {
                take(format!("agents[{index}].auth.client_secret"), text);
            }
        }
        (found, problems)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why a reference cannot be resolved. Never holds a value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("the environment variable `{0}` is not set")]
    NoVariable(String),
    /// The variable or file is empty.
    #[error("`{0}` is empty")]
    Empty(String),
    /// The file cannot be read.
    #[error("the file `{path}` cannot be read: {reason}")]
    NoFile {
        /// Path as written.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// `${…}` that is neither `env` nor `file`, or is not closed.
    #[error("`{0}` is not a reference")]
    BadReference(String),
}

impl SecretError {
    /// The finding at `path`.
    pub fn diagnostic(&self, path: &str) -> Diagnostic {
        let found = Diagnostic::new(path, self.code(), self.to_string());
        match self {
            Self::NoVariable(name) => found.suggest(format!("set `{name}` for the process, or use ${{file:PATH}}")),
            Self::BadReference(_) => {
                found.suggest("write ${env:NAME} or ${file:PATH}; write $${ for the characters themselves")
            }
            Self::Empty(_) | Self::NoFile { .. } => found,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NoVariable(_) | Self::Empty(_) | Self::NoFile { .. } => "secret_unresolved",
            Self::BadReference(_) => "bad_reference",
        }
    }
}

/// Replaces every reference in a text. `$${` stands for `${`.
///
/// # Errors
/// [`SecretError`] for the first reference that cannot be resolved.
pub fn expand(text: &str, environment: &Environment, base: &Path) -> Result<Secret<String>, SecretError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = reference.get(2..).unwrap_or_default();
            continue;
        }
        out.push_str(before);
        let Some(end) = reference.find('}') else {
            return Err(SecretError::BadReference(reference.chars().take(40).collect()));
        };
        let (reference, after) = reference.split_at(end + 1);
        let value = Secret::new(lookup(reference, environment, base)?);
        out.push_str(value.expose());
        rest = after;
    }
    out.push_str(rest);
    Ok(Secret::new(out))
}

fn lookup(reference: &str, environment: &Environment, base: &Path) -> Result<String, SecretError> {
    let inner = reference.trim_start_matches("${").trim_end_matches('}');
    match inner.split_once(':') {
        Some(("env", name)) if !name.is_empty() => match environment.get(name) {
            None => Err(SecretError::NoVariable(name.to_owned())),
            Some("") => Err(SecretError::Empty(name.to_owned())),
            Some(value) => Ok(value.to_owned()),
        },
        Some(("file", path)) if !path.is_empty() => read(&base.join(path), path),
        _ => Err(SecretError::BadReference(reference.chars().take(40).collect())),
    }
}

/// Reads a small text file; one line end at its end does not count.
fn read(file: &Path, written: &str) -> Result<String, SecretError> {
    let fail = |reason: String| SecretError::NoFile { path: written.to_owned(), reason };
    let opened = std::fs::File::open(file).map_err(|error| fail(crate::load::words(&error)))?;
    let mut text = String::new();
    opened.take(FILE_LIMIT + 1).read_to_string(&mut text).map_err(|error| fail(crate::load::words(&error)))?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(fail("it is larger than 64 KiB".to_owned()));
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() { Err(SecretError::Empty(written.to_owned())) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        [("TOKEN", "t0p"), ("EMPTY", "")].into_iter().collect()
    }

    #[test]
    fn p4_references_are_expanded() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "from-file\r\n").unwrap();
        for (text, value) in [
            ("plain", "plain"),
            ("${env:TOKEN}", "t0p"),
            ("Bearer ${env:TOKEN}!", "Bearer t0p!"),
            ("${file:key}/${env:TOKEN}", "from-file/t0p"),
            ("$${env:TOKEN}", "${env:TOKEN}"),
            ("$TOKEN $", "$TOKEN $"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &environment(), folder.path()).unwrap().expose(), value, "{text}");
        }
    }

    #[test]
    fn u4_unresolved_references_say_why() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        std::fs::write(folder.path().join("huge"), "x".repeat(70_000)).unwrap();
        std::fs::write(folder.path().join("binary"), [0xff, 0xfe]).unwrap();
        for (text, code, part) in [
            ("${env:NONE}", "secret_unresolved", "`NONE` is not set"),
            ("${env:EMPTY}", "secret_unresolved", "is empty"),
            ("${file:none}", "secret_unresolved", "`none` cannot be read"),
            ("${file:empty}", "secret_unresolved", "is empty"),
            ("${file:huge}", "secret_unresolved", "larger than"),
            ("${file:binary}", "secret_unresolved", "cannot be read"),
            ("${vault:x}", "bad_reference", "${vault:x}"),
            ("${env:}", "bad_reference", "${env:}"),
            ("${env:OPEN", "bad_reference", "${env:OPEN"),
        ] {
            let Err(error) = expand(text, &environment(), folder.path()) else { panic!("{text} was resolved") };
            let found = error.diagnostic("servers[0].auth_credentials");
            assert_eq!(found.code, code, "{text}");
            assert!(found.message.contains(part), "{}", found.message);
        }
    }

    #[test]
    fn a_self_reference_is_not_expanded_twice() {
        let environment: Environment = [("A", "${env:A}")].into_iter().collect();
        assert_eq!(expand("${env:A}", &environment, Path::new("")).unwrap().expose(), "${env:A}");
    }
}
