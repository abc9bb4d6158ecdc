//! Protocol revisions (protocol reference, section 1).

use std::fmt;

use bartizan_model::Era;
use serde::{Deserialize, Serialize};

/// A revision of the specification bartizan speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Revision {
    /// stdio and HTTP+SSE.
    #[serde(rename = "2024-11-05")]
    V2024_11_05,
    /// Streamable HTTP, batches.
    #[serde(rename = "2025-03-26")]
    V2025_03_26,
    /// No batches; version header, structured content, elicitation.
    #[serde(rename = "2025-06-18")]
    V2025_06_18,
    /// SSE polling, URL elicitation, core tasks.
    #[serde(rename = "2025-11-25")]
    V2025_11_25,
    /// Stateless.
    #[serde(rename = "2026-07-28")]
    V2026_07_28,
}

/// What an `initialize` for an unknown version is answered with.
pub const LATEST_LEGACY: Revision = Revision::V2025_11_25;
/// What bartizan speaks to modern servers first.
pub const LATEST_MODERN: Revision = Revision::V2026_07_28;
/// `supportedVersions` of discover and `supported` of -32022: the same list.
pub const MODERN_VERSIONS: &[Revision] = &[Revision::V2026_07_28];

impl Revision {
    /// Every revision, oldest first.
    pub const ALL: &'static [Self] =
        &[Self::V2024_11_05, Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25, Self::V2026_07_28];

    /// The revision of a version text; nothing for versions bartizan does not speak.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|revision| revision.as_str() == text)
    }

    /// The version text, a date.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// The era the revision belongs to.
    pub const fn era(self) -> Era {
        match self {
            Self::V2026_07_28 => Era::Modern,
            _ => Era::Legacy,
        }
    }

    /// What the server answers an `initialize` for `requested` with (section 2,
    /// "Version"): the same legacy version, else the latest legacy one.
    pub fn negotiate(requested: &str) -> Self {
        Self::parse(requested).filter(|revision| revision.era() == Era::Legacy).unwrap_or(LATEST_LEGACY)
    }

    /// True when messages may come as a JSON array.
    pub fn has_batches(self) -> bool {
        self == Self::V2025_03_26
    }

    /// True when `elicitation/create` in URL mode exists.
    pub fn has_url_elicitation(self) -> bool {
        self >= Self::V2025_11_25
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// True for any date of the modern era, known or not (`2026-07-28` and later).
pub(crate) fn looks_modern(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shape = bytes.len() == 10
        && bytes.iter().enumerate().all(|(i, b)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() });
    // Dates of this shape sort as text.
    shape && text >= Revision::V2026_07_28.as_str()
}

/// The list of modern versions as a JSON array.
pub fn modern_versions_json() -> crate::RawJson {
    let texts: Vec<_> = MODERN_VERSIONS.iter().map(|revision| crate::RawJson::string(revision.as_str())).collect();
    crate::RawJson::array(&texts)
}
