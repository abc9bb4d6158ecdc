//! The capabilities a client was told when its session began. In the legacy era they
//! hold for the session: a method of another one is unknown (protocol section 3.4).

use bartizan_wire::{RawJson, method};

/// Capabilities that have methods.
const NAMES: [&str; 6] = ["tools", "prompts", "resources", "completions", "logging", "tasks"];

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered(u8);

impl Offered {
    /// What a result of `initialize` announces.
    pub(crate) fn of(result: &RawJson) -> Self {
        let capabilities = result.get("capabilities");
        let announced = |name: &&str| {
            let value = capabilities.as_ref().and_then(|capabilities| capabilities.get(name));
            value.is_some_and(|value| !value.is_null())
        };
        let bits = NAMES.iter().enumerate().filter(|(_, name)| announced(name));
        Self(bits.fold(0, |all, (place, _)| all | 1 << place))
    }

    /// As one byte.
    pub(super) fn bits(self) -> u8 {
        self.0
    }

    /// From [`Self::bits`].
    pub(super) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Whether a method can be used: it belongs to no capability, or to one of these.
    /// Calls of single things are left to the gate, which knows better why there is
    /// no such thing.
    pub(crate) fn has(self, name: &str) -> bool {
        if matches!(name, "tools/call" | "prompts/get" | "resources/read") {
            return true;
        }
        let Some(needed) = method::lookup(name).and_then(|info| info.capability) else { return true };
        let place = NAMES.iter().position(|known| *known == needed);
        place.is_none_or(|place| self.0 & 1 << place != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p7_methods_of_capabilities_that_were_not_announced() {
        let result = r#"{"capabilities":{"tools":{},"prompts":null,"x":{}}}"#;
        let offered = Offered::of(&RawJson::try_from(result).unwrap());
        for known in ["tools/list", "tools/call", "ping", "initialize", "x/y", "resources/read"] {
            assert!(offered.has(known), "{known}");
        }
        for unknown in ["prompts/list", "resources/list", "logging/setLevel", "completion/complete", "tasks/list"] {
            assert!(!offered.has(unknown), "{unknown}");
        }
        assert!(!Offered::of(&RawJson::null()).has("tools/list"));
    }
}
