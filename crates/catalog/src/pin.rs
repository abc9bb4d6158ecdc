//! Pins: what a definition says, as one hash (feature row P43).

use std::sync::Arc;

use bartizan_wire::canonical::{self, Inexact};
use bartizan_wire::{RawJson, splice};

use crate::digest::sha256_hex;

/// Longest canonical text of one definition, bytes.
pub const MAX_BODY: usize = 1 << 20;
/// Longest name of a definition, bytes.
pub const MAX_NAME: usize = 512;

/// What a pin is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PinKind {
    /// A tool.
    Tool,
    /// A prompt.
    Prompt,
    /// A resource template.
    Template,
    /// What a server says about itself: instructions, name, title, description.
    Server,
    /// A resource. Lists of resources stay live (P31); nothing is decided about them.
    Resource,
}

impl PinKind {
    /// The word in the store, in files and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Template => "template",
            Self::Server => "server",
            Self::Resource => "resource",
        }
    }

    /// The kind of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Tool, Self::Prompt, Self::Template, Self::Server].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Why something cannot be pinned, and is therefore not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unfit {
    /// It has no exact canonical form.
    #[error(transparent)]
    Inexact(#[from] Inexact),
    /// It is longer than [`MAX_BODY`].
    #[error("the definition is longer than 1 MiB")]
    TooLong,
    /// Its name is longer than [`MAX_NAME`] or holds a NUL.
    #[error("the name is longer than 512 bytes or holds a NUL")]
    Name,
}

/// A definition in its canonical form, with its pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Lower-case hex of SHA-256 over `bartizan/pin/1/KIND`, NUL and [`Self::body`].
    pub pin: Arc<str>,
    /// Canonical JSON (RFC 8785); integers beyond 2^53 keep their digits.
    pub body: String,
}

/// The pin of a canonical text.
pub fn pin_of(kind: PinKind, body: &str) -> String {
    sha256_hex(&[b"bartizan/pin/1/", kind.as_str().as_bytes(), b"\0", body.as_bytes()], 32)
}

/// Pins a definition: every member of it counts, known or not.
///
/// # Errors
/// [`Unfit`] when it says something that readers may read differently, or too much.
pub fn pinned(kind: PinKind, raw: &RawJson) -> Result<Pinned, Unfit> {
    if raw.len() > 2 * MAX_BODY {
        return Err(Unfit::TooLong);
    }
    let body = canonical::exact(raw)?;
    if body.len() > MAX_BODY {
        return Err(Unfit::TooLong);
    }
    Ok(Pinned { pin: pin_of(kind, &body).into(), body })
}

/// What a server says about itself, for its pin: `instructions`, and `serverInfo` without the
/// version. Nothing when it says nothing that a model could read.
pub fn server_words(instructions: Option<&str>, server_info: Option<&RawJson>) -> Option<RawJson> {
    let instructions = instructions.map(RawJson::string);
    let info = server_info.filter(|info| info.is_object()).map(|info| splice::remove(info, "version"));
    let mut members = Vec::new();
    members.extend(instructions.as_ref().map(|text| ("instructions", text)));
    members.extend(info.as_ref().map(|info| ("serverInfo", info)));
    (!members.is_empty()).then(|| RawJson::object(members))
}
