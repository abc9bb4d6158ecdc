//! A certificate with its key, read and looked at.

use std::path::Path;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::TlsError;
use crate::setup::{provider, unusable};

/// Largest file of certificates or keys, bytes.
const MAX_FILE: u64 = 1 << 20;
/// Longest chain.
const MAX_CHAIN: usize = 10;

/// A certificate chain with its key, which belong together.
#[derive(Debug)]
pub(crate) struct Material {
    pub(crate) certified: CertifiedKey,
    /// Milliseconds since the epoch.
    pub(crate) not_before_ms: i64,
    /// Milliseconds since the epoch.
    pub(crate) not_after_ms: i64,
}

impl Material {
    /// Puts a chain and its key together.
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, TlsError> {
        if chain.len() > MAX_CHAIN {
            return Err(unusable(format!("the chain has more than {MAX_CHAIN} certificates")));
        }
        let first = chain.first().ok_or_else(|| unusable("there is no certificate"))?;
        let (not_before_ms, not_after_ms) = validity(first)?;
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(unusable)?;
        Ok(Self { certified, not_before_ms, not_after_ms })
    }

    /// Reads PEM files.
    pub(crate) fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(cert)?;
        let bytes = read(key)?;
        // The reason of the library could hold what is in the file.
        let secret = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| TlsError::file(key, "no private key in it"))?;
        Self::new(chain, secret)
    }

    /// Whether the certificate is valid at this time.
    pub(crate) fn check(&self, now_ms: i64) -> Result<(), TlsError> {
        if now_ms < self.not_before_ms {
            return Err(TlsError::Expired { why: "is not valid yet" });
        }
        if now_ms >= self.not_after_ms {
            return Err(TlsError::Expired { why: "has expired" });
        }
        Ok(())
    }
}

/// The certificates of a PEM file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|_| TlsError::file(path, "it is no PEM file of certificates"))?;
    if found.is_empty() {
        return Err(TlsError::file(path, "no certificate in it"));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, TlsError> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|error| TlsError::file(path, error))?;
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| TlsError::file(path, error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(TlsError::file(path, "the file is larger than 1 MiB"));
    }
    Ok(bytes)
}

/// First and last moment of a certificate, milliseconds since the epoch.
pub(crate) fn validity(certificate: &[u8]) -> Result<(i64, i64), TlsError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| unusable("it is no X.509 certificate"))?;
    let ms = |seconds: i64| seconds.saturating_mul(1000);
    Ok((ms(parsed.validity().not_before.timestamp()), ms(parsed.validity().not_after.timestamp())))
}

/// SHA-256 of a certificate, lower-case hex.
pub fn fingerprint(certificate: &[u8]) -> String {
    use std::fmt::Write as _;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
