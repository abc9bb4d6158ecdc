//! What can be wrong with certificates.

use std::path::{Path, PathBuf};

/// Why certificates cannot be used. Texts name files and reasons, never keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read or is not what it should be.
    #[error("{}: {why}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The certificate is not valid at this time.
    #[error("the certificate {why}")]
    Expired {
        /// `has expired` or `is not valid yet`.
        why: &'static str,
    },
    /// Certificate and key do not work together, or with this library.
    #[error("certificate and key: {0}")]
    Unusable(String),
    /// The installation's authority cannot be read or made.
    #[error("authority of the installation: {0}")]
    Authority(String),
}

impl TlsError {
    pub(crate) fn file(path: &Path, why: impl std::fmt::Display) -> Self {
        Self::File { path: path.to_path_buf(), why: why.to_string() }
    }
}
