//! What a client declared about itself, per session (legacy) or per request (modern).

use std::sync::Arc;

use bartizan_model::Era;

use crate::error::RpcError;
use crate::level::LogLevel;
use crate::params::{Meta, Params, ParamsError};
use crate::raw::RawJson;
use crate::revision::Revision;
use crate::splice;

/// A client as it declared itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientProfile {
    /// Era it speaks.
    pub era: Era,
    /// Revision negotiated (legacy) or named in the request (modern).
    pub revision: Revision,
    /// The version text of `revision`.
    pub version: Arc<str>,
    /// ClientCapabilities as declared.
    pub capabilities: RawJson,
    /// Name and version; decides nothing.
    pub client_info: Option<RawJson>,
    /// Least severe log level wanted: from `logging/setLevel` (legacy; the caller keeps
    /// it) or from `_meta` (modern).
    pub log_level: Option<LogLevel>,
}

impl ClientProfile {
    /// A profile that declares nothing.
    pub fn plain(revision: Revision) -> Self {
        Self {
            era: revision.era(),
            revision,
            version: revision.as_str().into(),
            capabilities: RawJson::empty_object(),
            client_info: None,
            log_level: None,
        }
    }

    /// The profile of one modern request, after [`crate::era::detect`] said so.
    /// The kept values do not keep the request's bytes alive.
    ///
    /// # Errors
    /// -32602 (HTTP 400) without `clientCapabilities` or with an unknown log level.
    pub fn modern(revision: Revision, meta: &Meta) -> Result<Self, RpcError> {
        let Some(capabilities) = &meta.client_capabilities else {
            return Err(ParamsError::Missing("_meta[\"io.modelcontextprotocol/clientCapabilities\"]").to_rpc());
        };
        let log_level = match &meta.log_level {
            Some(text) => Some(LogLevel::parse(text).ok_or_else(|| ParamsError::Level.to_rpc())?),
            None => None,
        };
        Ok(Self {
            capabilities: capabilities.detached(),
            client_info: meta.client_info.as_ref().map(RawJson::detached),
            log_level,
            ..Self::plain(revision)
        })
    }

    /// The profile of a legacy session from the params of `initialize`; the revision is
    /// what the server will answer with.
    ///
    /// # Errors
    /// -32602 when `protocolVersion` is not a string, or a given `capabilities` or
    /// `clientInfo` is not an object.
    pub fn legacy(params: &Params) -> Result<Self, RpcError> {
        let version = params.raw.get("protocolVersion");
        let version = version.as_ref().and_then(RawJson::as_string);
        let version = version.ok_or_else(|| ParamsError::Missing("protocolVersion").to_rpc())?;
        let object = |key| match params.raw.get(key) {
            Some(value) if value.is_object() => Ok(Some(value.detached())),
            Some(value) if !value.is_null() => Err(ParamsError::Type(key).to_rpc()),
            _ => Ok(None),
        };
        Ok(Self {
            capabilities: object("capabilities")?.unwrap_or_else(RawJson::empty_object),
            client_info: object("clientInfo")?,
            ..Self::plain(Revision::negotiate(&version))
        })
    }

    /// True when the capability at a dotted path is declared, e.g. `sampling`,
    /// `sampling.tools`, `elicitation.url`. An `elicitation` that names neither mode
    /// means `elicitation.form` (protocol reference 2, both eras).
    pub fn declares(&self, path: &str) -> bool {
        let steps: Vec<&str> = path.split('.').collect();
        self.declares_path(&steps)
    }

    /// [`Self::declares`] for names that hold dots, such as extension ids.
    pub fn declares_path(&self, path: &[&str]) -> bool {
        let declared = |value: RawJson| !value.is_null() && value.as_bool() != Some(false);
        if path == ["elicitation", "form"] {
            return match splice::get(&self.capabilities, "elicitation").filter(|v| declared(v.clone())) {
                Some(modes) => {
                    splice::get(&modes, "form").is_some_and(declared)
                        || !splice::get(&modes, "url").is_some_and(declared)
                }
                None => false,
            };
        }
        splice::get_path(&self.capabilities, path).is_some_and(declared)
    }

    /// SHA-256 over the canonical capabilities, lower-case hex: equal for equal
    /// declarations, however they are spelled. Part of the key of legacy upstream
    /// sessions, whose capabilities are fixed at `initialize`.
    pub fn capability_digest(&self) -> String {
        use std::fmt::Write as _;
        let canonical = crate::canonical::rfc8785(&self.capabilities);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes());
        digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// `name` and `version` of the client info, for the audit record.
    pub fn client_name(&self) -> (Option<String>, Option<String>) {
        let text = |key| Some(self.client_info.as_ref()?.get(key)?.as_string()?.into_owned());
        (text("name"), text("version"))
    }
}
