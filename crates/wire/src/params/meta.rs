//! `params._meta` (protocol reference 3.1).

use crate::fold::folds_to;
use crate::meta_key;
use crate::params::ParamsError;
use crate::raw::RawJson;
use crate::scan::{HARD_DEPTH, JsonKind, Scanner, decode};

/// The members of `_meta` that are looked at; everything else stays in `raw`.
#[derive(Clone, Debug)]
pub struct Meta {
    /// The whole object.
    pub raw: RawJson,
    /// Version of a modern request. Its presence is what makes a request modern.
    pub protocol_version: Option<String>,
    /// Capabilities of a modern request.
    pub client_capabilities: Option<RawJson>,
    /// Name and version of the client; decides nothing.
    pub client_info: Option<RawJson>,
    /// Least severe log level wanted, unchecked.
    pub log_level: Option<String>,
    /// String or integer.
    pub progress_token: Option<RawJson>,
    /// W3C trace parent, unchecked.
    pub traceparent: Option<String>,
    /// W3C trace state, unchecked.
    pub tracestate: Option<String>,
    /// Id of a listen request.
    pub subscription_id: Option<RawJson>,
}

impl Meta {
    /// Reads the members.
    ///
    /// # Errors
    /// [`ParamsError::Type`] for a looked-at member of the wrong type, except for trace
    /// members, which are then left out; [`ParamsError::Ambiguous`] for a name that
    /// differs from a defined one only in case.
    pub fn parse(raw: &RawJson) -> Result<Self, ParamsError> {
        let mut meta = Self {
            raw: raw.clone(),
            protocol_version: None,
            client_capabilities: None,
            client_info: None,
            log_level: None,
            progress_token: None,
            traceparent: None,
            tracestate: None,
            subscription_id: None,
        };
        let bytes = raw.as_bytes();
        let mut scan = Scanner::new(bytes, HARD_DEPTH);
        let (mut first, mut keys) = (true, Vec::with_capacity(8));
        scan.open(b'{').map_err(|_| ParamsError::Type("_meta"))?;
        while let Ok(Some(member)) = scan.next_member(&mut first) {
            keys.push(member.key);
            let name = decode(bytes, member.key).ok_or(ParamsError::Ambiguous)?;
            meta.take(&name, RawJson::of(raw.bytes(), member.value))?;
        }
        crate::scan::dup::unique(bytes, &keys).map_err(|_| ParamsError::Ambiguous)?;
        Ok(meta)
    }

    fn take(&mut self, name: &str, value: RawJson) -> Result<(), ParamsError> {
        let text = |member| value.as_string().map(String::from).ok_or(ParamsError::Type(member));
        match name {
            meta_key::PROTOCOL_VERSION => {
                self.protocol_version = Some(text("_meta[\"io.modelcontextprotocol/protocolVersion\"]")?);
            }
            meta_key::LOG_LEVEL => self.log_level = Some(text("_meta[\"io.modelcontextprotocol/logLevel\"]")?),
            meta_key::CLIENT_CAPABILITIES if value.is_object() => self.client_capabilities = Some(value),
            meta_key::CLIENT_CAPABILITIES => {
                return Err(ParamsError::Type("_meta[\"io.modelcontextprotocol/clientCapabilities\"]"));
            }
            meta_key::CLIENT_INFO if value.is_object() => self.client_info = Some(value),
            meta_key::CLIENT_INFO => return Err(ParamsError::Type("_meta[\"io.modelcontextprotocol/clientInfo\"]")),
            meta_key::PROGRESS_TOKEN if matches!(value.kind(), JsonKind::String | JsonKind::Number) => {
                self.progress_token = Some(value);
            }
            meta_key::PROGRESS_TOKEN => return Err(ParamsError::Type("_meta.progressToken")),
            meta_key::SUBSCRIPTION_ID => self.subscription_id = Some(value),
            meta_key::TRACEPARENT => self.traceparent = value.as_string().map(String::from),
            meta_key::TRACESTATE => self.tracestate = value.as_string().map(String::from),
            other => {
                let known = [
                    meta_key::PROTOCOL_VERSION,
                    meta_key::CLIENT_CAPABILITIES,
                    meta_key::CLIENT_INFO,
                    meta_key::LOG_LEVEL,
                ];
                if known.iter().any(|known| folds_to(other, known)) {
                    return Err(ParamsError::Ambiguous);
                }
            }
        }
        Ok(())
    }
}
