//! Master keys: one that seals, and older ones that still open.

use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use aws_lc_rs::digest;
use bartizan_config::settings::KeySource;
use bartizan_model::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::aead::KEY;

/// A key that stands in documentation and examples; `serve` refuses it.
const DEMO: &[u8; KEY] = b"bartizan demo key, do not use it";

/// Longest key material that is read.
const MAX_SOURCE: u64 = 4096;

/// Why there is no usable key. The text never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("key file {path}: {source}")]
    File {
        /// Path as configured.
        path: String,
        /// Reason.
        #[source]
        source: std::io::Error,
    },
    /// Somebody else on the machine could read or change the key.
    #[error("key file {path} must not be readable or writable by others (mode {mode:o}); use mode 600 or 640")]
    Permissions {
        /// Path as configured.
        path: String,
        /// Permission bits found.
        mode: u32,
    },
    /// The environment variable is not set or not UTF-8.
    #[error("environment variable {0} holds no key")]
    Environment(String),
    /// Not 32 bytes, raw or base64.
    #[error("the key must be exactly 32 bytes, raw or as base64, one per line")]
    Form,
    /// The same key twice.
    #[error("the same key is listed twice")]
    Twice,
    /// The random generator failed.
    #[error("no randomness")]
    Random,
}

/// Names a master key in sealed headers: the first eight bytes of a hash of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 8]);

impl KeyId {
    pub(crate) fn bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One master key.
pub(crate) struct MasterKey {
    pub(crate) id: KeyId,
    pub(crate) bytes: Secret<[u8; KEY]>,
}

impl MasterKey {
    fn new(bytes: [u8; KEY]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"bartizan key id\0");
        context.update(&bytes);
        let hash = context.finish();
        let mut id = [0u8; 8];
        id.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
        Self { id: KeyId(id), bytes: Secret::new(bytes) }
    }
}

/// The keys of this installation: the first seals, all open.
pub struct KeyRing {
    pub(crate) current: MasterKey,
    pub(crate) previous: Vec<MasterKey>,
}

impl KeyRing {
    /// Reads keys from where the settings say: 32 raw bytes, or lines of base64 of which
    /// the first seals and the others (of earlier rotations) only open.
    ///
    /// # Errors
    /// [`KeyError`]; a shorter key is never padded.
    pub fn from_source(source: &KeySource) -> Result<Self, KeyError> {
        match source {
            KeySource::File(path) => Self::from_bytes(&read_file(path)?),
            KeySource::Env(name) => {
                #[expect(clippy::disallowed_methods, reason = "the settings name this variable; read once at start")]
                let value = std::env::var(name).map_err(|_| KeyError::Environment(name.clone()))?;
                Self::from_text(&Zeroizing::new(value))
            }
        }
    }

    /// A random key that is gone with the process; for `dev` and tests.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the machine has no randomness.
    pub fn ephemeral() -> Result<Self, KeyError> {
        let mut bytes = [0u8; KEY];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyError::Random)?;
        Ok(Self { current: MasterKey::new(bytes), previous: Vec::new() })
    }

    /// Keys as given: the first seals, the others only open.
    ///
    /// # Errors
    /// [`KeyError::Twice`] when one is listed twice.
    pub fn from_keys(current: [u8; KEY], previous: impl IntoIterator<Item = [u8; KEY]>) -> Result<Self, KeyError> {
        let current = MasterKey::new(current);
        let previous: Vec<MasterKey> = previous.into_iter().map(MasterKey::new).collect();
        let mut ids: Vec<&[u8; 8]> = previous.iter().chain([&current]).map(|key| key.id.bytes()).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(KeyError::Twice);
        }
        Ok(Self { current, previous })
    }

    /// True when any key is one from the documentation or plainly no random key (all
    /// bytes equal). `serve` refuses to start with it.
    pub fn is_demo(&self) -> bool {
        std::iter::once(&self.current).chain(&self.previous).any(|key| {
            let bytes = key.bytes.expose();
            bytes == DEMO || bytes.iter().all(|byte| Some(byte) == bytes.first())
        })
    }

    /// Name of the key that seals.
    pub fn current_id(&self) -> KeyId {
        self.current.id
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        // Raw first: 32 bytes can never be 32 bytes of base64 as well, which take 43.
        if let Ok(raw) = <[u8; KEY]>::try_from(bytes) {
            return Self::from_keys(raw, []);
        }
        Self::from_text(std::str::from_utf8(bytes).map_err(|_| KeyError::Form)?)
    }

    fn from_text(text: &str) -> Result<Self, KeyError> {
        if let Ok(raw) = <[u8; KEY]>::try_from(text.as_bytes()) {
            return Self::from_keys(raw, []);
        }
        let mut keys = text.split([',', '\n', '\r', ' ', '\t']).filter(|part| !part.is_empty()).map(decode);
        let first = keys.next().ok_or(KeyError::Form)??;
        Self::from_keys(first, keys.collect::<Result<Vec<_>, _>>()?)
    }
}

fn decode(text: &str) -> Result<[u8; KEY], KeyError> {
    let bytes = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD]
        .iter()
        .find_map(|engine| engine.decode(text).ok())
        .map(Zeroizing::new)
        .ok_or(KeyError::Form)?;
    <[u8; KEY]>::try_from(bytes.as_slice()).map_err(|_| KeyError::Form)
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let fail = |source| KeyError::File { path: path.display().to_string(), source };
    check_mode(path, &fs::metadata(path).map_err(fail)?)?;
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path).map_err(fail)?.take(MAX_SOURCE).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}

/// Group reading is allowed: orchestrators mount secrets that way.
#[cfg(unix)]
fn check_mode(path: &Path, metadata: &fs::Metadata) -> Result<(), KeyError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o027 == 0 {
        return Ok(());
    }
    Err(KeyError::Permissions { path: path.display().to_string(), mode })
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &fs::Metadata) -> Result<(), KeyError> {
    Ok(())
}
