//! What a client said about itself, as it is kept in the table of profiles: one text per
//! set of capabilities, name and version, under its own digest.

use bartizan_wire::{ClientProfile, RawJson, Revision};

use super::envelope::{hex, sha256};

/// Longest profile that is kept, bytes.
const MAX: usize = 8 * 1024;

/// A profile ready to be kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) text: String,
    pub(super) digest: [u8; 32],
}

/// The profile as text. None for one that nobody needs to have that large.
pub(super) fn keep(profile: &ClientProfile) -> Option<Kept> {
    let null = RawJson::null();
    let client = profile.client_info.as_ref().unwrap_or(&null);
    let text = RawJson::object([("capabilities", &profile.capabilities), ("client", client)]);
    let text = Some(text.as_str()).filter(|text| text.len() <= MAX)?.to_owned();
    Some(Kept { digest: sha256(text.as_bytes()), text })
}

/// The profile of a kept text. None when the text is not the one of this digest.
pub(super) fn restore(text: &str, digest: &[u8; 32], revision: Revision) -> Option<ClientProfile> {
    if sha256(text.as_bytes()) != *digest {
        tracing::error!(digest = hex(digest), "a client profile in the store is not what was put there");
        return None;
    }
    let kept = RawJson::try_from(text).ok()?;
    let client = kept.get("client").filter(|client| !client.is_null());
    Some(ClientProfile {
        capabilities: kept.get("capabilities")?.detached(),
        client_info: client.map(|client| client.detached()),
        ..ClientProfile::plain(revision)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p34_a_profile_comes_back_as_it_was() {
        let mut profile = ClientProfile::plain(Revision::V2025_06_18);
        profile.capabilities = RawJson::try_from(r#"{"sampling":{"n":1.50},"x":{"y":[1e2]}}"#).unwrap();
        for client in [None, Some(RawJson::try_from(r#"{"name":"ä","version":"1"}"#).unwrap())] {
            profile.client_info = client;
            let kept = keep(&profile).unwrap();
            assert_eq!(restore(&kept.text, &kept.digest, Revision::V2025_06_18), Some(profile.clone()));
            assert_eq!(restore(&format!("{} ", kept.text), &kept.digest, Revision::V2025_06_18), None);
        }
        profile.capabilities = RawJson::string(&"x".repeat(MAX));
        assert!(keep(&profile).is_none());
    }
}
