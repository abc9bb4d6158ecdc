//! The id of a session (feature row P34): a sealed envelope that says whose it is, so that
//! every replica can open it and nobody else can read, change or make one.
//!
//! ```text
//! format 1 | transport 1 | revision 1 | offered 1 | created 8 | row 16
//! | owner 32 | credential 16 | profile 32 | endpoint, the rest
//! ```

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bartizan_gate::{Endpoint, session_holder};
use bartizan_model::Principal;
use bartizan_vault::HandleSealer;
use bartizan_wire::Revision;

use super::{Offered, Transport};

/// What the handles are sealed for.
const PURPOSE: &str = "legacy session v1";
const FORMAT: u8 = 1;
/// Longer texts are nobody's session id.
pub(super) const MAX_ID: usize = 512;

/// What an id says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) transport: Transport,
    pub(super) revision: Revision,
    pub(super) offered: Offered,
    pub(super) created_ms: i64,
    /// Name of the row with what changes.
    pub(super) row: [u8; 16],
    /// SHA-256 over the key of the principal.
    pub(super) owner: [u8; 32],
    /// First half of SHA-256 over the grant or service token.
    pub(super) credential: [u8; 16],
    /// SHA-256 over the profile of the client.
    pub(super) profile: [u8; 32],
    /// Label of the endpoint.
    pub(super) endpoint: String,
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// The owner as the envelope has it.
pub(super) fn owner_of(principal: &Principal) -> [u8; 32] {
    sha256(principal.key().as_bytes())
}

/// The credential as the envelope has it; all zeros for callers without one.
pub(super) fn credential_of(credential: Option<&str>) -> [u8; 16] {
    let mut out = [0; 16];
    if let Some(credential) = credential {
        out.iter_mut().zip(sha256(credential.as_bytes())).for_each(|(to, from)| *to = from);
    }
    out
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Envelope {
    /// Name of the row.
    pub(super) fn holder(&self) -> Arc<str> {
        session_holder(&hex(&self.row))
    }

    /// The id. None when it cannot be sealed or would be too long.
    pub(super) fn seal(&self, handles: &HandleSealer) -> Option<Arc<str>> {
        let revision = Revision::ALL.iter().position(|known| *known == self.revision)?;
        let mut bytes = vec![FORMAT, self.transport.code(), u8::try_from(revision).ok()?, self.offered.bits()];
        bytes.extend_from_slice(&self.created_ms.to_be_bytes());
        bytes.extend_from_slice(&self.row);
        bytes.extend_from_slice(&self.owner);
        bytes.extend_from_slice(&self.credential);
        bytes.extend_from_slice(&self.profile);
        bytes.extend_from_slice(self.endpoint.as_bytes());
        let id = handles.seal(PURPOSE, &bytes).ok()?;
        (id.len() <= MAX_ID).then(|| id.into())
    }

    /// Opens an id that was sealed here or on another replica. None for anything else.
    pub(super) fn open(handles: &HandleSealer, id: &str) -> Option<Self> {
        if id.is_empty() || id.len() > MAX_ID {
            return None;
        }
        let bytes = handles.open(PURPOSE, id).ok()?;
        let ([format, transport, revision, offered], rest) = bytes.split_first_chunk::<4>()?;
        let (created, rest) = rest.split_first_chunk::<8>()?;
        let (row, rest) = rest.split_first_chunk::<16>()?;
        let (owner, rest) = rest.split_first_chunk::<32>()?;
        let (credential, rest) = rest.split_first_chunk::<16>()?;
        let (profile, endpoint) = rest.split_first_chunk::<32>()?;
        if *format != FORMAT {
            return None;
        }
        Some(Self {
            transport: Transport::from_code(*transport)?,
            revision: *Revision::ALL.get(usize::from(*revision))?,
            offered: Offered::from_bits(*offered),
            created_ms: i64::from_be_bytes(*created),
            row: *row,
            owner: *owner,
            credential: *credential,
            profile: *profile,
            endpoint: std::str::from_utf8(endpoint).ok()?.to_owned(),
        })
    }

    /// Whether it is for this caller at this endpoint.
    pub(super) fn is_for(
        &self,
        principal: &Principal,
        credential: Option<&str>,
        endpoint: &Endpoint,
        transport: Transport,
    ) -> bool {
        self.owner == owner_of(principal)
            && self.credential == credential_of(credential)
            && self.endpoint == endpoint.label()
            && self.transport == transport
    }
}

#[cfg(test)]
mod tests {
    use bartizan_model::{PortalId, PrincipalKind};
    use bartizan_vault::{KeyRing, Vault};

    use super::*;

    fn handles() -> HandleSealer {
        Vault::new(KeyRing::ephemeral().unwrap()).unwrap().handles()
    }

    fn envelope() -> Envelope {
        Envelope {
            transport: Transport::Streamable,
            revision: Revision::V2025_11_25,
            offered: Offered::from_bits(5),
            created_ms: 1_800_000_000_000,
            row: [7; 16],
            owner: sha256(b"user:alice"),
            credential: credential_of(Some("grant:1")),
            profile: [9; 32],
            endpoint: "portals/default".to_owned(),
        }
    }

    #[test]
    fn p34_an_envelope_opens_to_what_was_sealed_and_is_short() {
        let handles = handles();
        let longest = Envelope { endpoint: format!("portals/{}", "x".repeat(64)), ..envelope() };
        for sealed in [envelope(), longest] {
            let id = sealed.seal(&handles).unwrap();
            assert!(id.len() <= MAX_ID && id.bytes().all(|b| (0x21..=0x7e).contains(&b)));
            assert_eq!(Envelope::open(&handles, &id), Some(sealed));
            for readable in ["alice", "default", "portals", "grant"] {
                assert!(!id.contains(readable));
            }
        }
        let endless = Envelope { endpoint: "x".repeat(400), ..envelope() };
        assert_eq!(endless.seal(&handles), None);
    }

    #[test]
    fn p34_forged_truncated_and_foreign_envelopes_do_not_open() {
        let (handles, other) = (handles(), handles());
        let id = envelope().seal(&handles).unwrap();
        assert_eq!(Envelope::open(&other, &id), None, "another installation");
        for end in 0..id.len() {
            assert_eq!(Envelope::open(&handles, &id[..end]), None);
        }
        for at in 0..id.len() {
            let mut bytes = id.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(Envelope::open(&handles, std::str::from_utf8(&bytes).unwrap()), None, "{at}");
        }
        let longer = format!("{id}A");
        for bad in ["", " ", "=", &longer, &"A".repeat(100_000), &format!("{id}{id}")] {
            assert_eq!(Envelope::open(&handles, bad), None);
        }
        // A handle of another kind is no session.
        let other_kind = handles.seal("request state v1", &[1; 200]).unwrap();
        assert_eq!(Envelope::open(&handles, &other_kind), None);
        let short = handles.seal(PURPOSE, &[FORMAT; 40]).unwrap();
        assert_eq!(Envelope::open(&handles, &short), None);
    }

    #[test]
    fn p34_after_a_rotation_older_envelopes_open_until_the_key_is_gone() {
        let of = |current, previous: &[u8; 32]| {
            let ring = KeyRing::from_keys(current, (*previous != current).then_some(*previous)).unwrap();
            Vault::new(ring).unwrap().handles()
        };
        let (old, new, other) = ([1; 32], [2; 32], [3; 32]);
        let id = envelope().seal(&of(old, &old)).unwrap();
        assert_eq!(Envelope::open(&of(new, &old), &id), Some(envelope()));
        assert_eq!(Envelope::open(&of(new, &other), &id), None);
        // The same key gives the same handles, on every replica.
        assert_eq!(Envelope::open(&of(old, &old), &id), Some(envelope()));
    }

    #[test]
    fn p34_an_envelope_is_for_one_caller_one_credential_and_one_endpoint() {
        let portal = |id| Endpoint::Portal(PortalId::parse(id).unwrap());
        let who = |kind, name: &str| Principal::new(kind, name, []);
        let (alice, at) = (who(PrincipalKind::User, "alice"), portal("default"));
        let fits = |principal: &Principal, credential, at: &Endpoint, transport| {
            envelope().is_for(principal, credential, at, transport)
        };
        assert!(fits(&alice, Some("grant:1"), &at, Transport::Streamable));
        assert!(!fits(&who(PrincipalKind::User, "bob"), Some("grant:1"), &at, Transport::Streamable));
        assert!(!fits(&who(PrincipalKind::Service, "alice"), Some("grant:1"), &at, Transport::Streamable));
        assert!(!fits(&alice, Some("grant:2"), &at, Transport::Streamable));
        assert!(!fits(&alice, None, &at, Transport::Streamable));
        assert!(!fits(&alice, Some("grant:1"), &portal("hr"), Transport::Streamable));
        assert!(!fits(&alice, Some("grant:1"), &at, Transport::Sse));
    }
}
