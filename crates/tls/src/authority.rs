//! The authorities of the installation. Their keys are sealed records in the store, so
//! that all processes over one store have the same. The public one signs what clients
//! see; the one of the replicas signs what only processes see. They are two, so that
//! nothing that is issued to the outside is ever good at the replica listener.

use std::sync::Arc;
use std::time::Duration;

use bartizan_model::Clock;
use bartizan_store::repo::sealed::Key;
use bartizan_vault::{Records, RecordsError};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::TlsError;
use crate::material::Material;

/// Life of an authority: ten years.
const LIFE: Duration = Duration::from_secs(3650 * DAY);
const DAY: u64 = 86_400;
/// Clocks of clients may be behind.
const BEFORE_MS: i64 = 3_600_000;

/// Which authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Signs the certificate of the public listener.
    Public,
    /// Signs the certificates of the processes.
    Replicas,
}

impl Kind {
    fn id(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Replicas => "replicas",
        }
    }
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    common_name: String,
    certificate: Vec<u8>,
    pem: String,
    key: Vec<u8>,
    not_before_ms: i64,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// An authority with its key.
pub struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    clock: Arc<dyn Clock>,
}

impl Authority {
    /// The authority of the installation; makes it when there is none. Of several processes that make it at once, one
    /// wins and the others take what it made.
    ///
    /// # Errors
    /// [`TlsError::Authority`] when the store does not answer, or the record does not open.
    pub async fn open(records: &Records, clock: Arc<dyn Clock>, kind: Kind) -> Result<Self, TlsError> {
        let wrong = |error: RecordsError| TlsError::Authority(error.to_string());
        let key = Key { tenant: String::new(), kind: "tls-authority".to_owned(), id: kind.id().to_owned() };
        if let Some((_, plain)) = records.get(&key).await.map_err(wrong)? {
            return Self::of(&plain, clock);
        }
        let made = Zeroizing::new(make(kind, clock.now_ms())?);
        match records.put(&key, 0, &made).await {
            Ok(_) => Self::of(&made, clock),
            Err(RecordsError::Conflict) => match records.get(&key).await.map_err(wrong)? {
                Some((_, plain)) => Self::of(&plain, clock),
                None => Err(TlsError::Authority("it was removed meanwhile".to_owned())),
            },
            Err(error) => Err(wrong(error)),
        }
    }

    fn of(plain: &[u8], clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let broken = || TlsError::Authority("what is stored cannot be read".to_owned());
        let kept: Kept = serde_json::from_slice(plain).map_err(|_| broken())?;
        let key = KeyPair::try_from(kept.key.as_slice()).map_err(|_| broken())?;
        let issuer = Issuer::new(params(&kept.common_name, kept.not_before_ms), key);
        let certificate = CertificateDer::from(kept.certificate.clone());
        Ok(Self { certificate, pem: kept.pem.clone(), issuer, clock })
    }

    /// The certificate, PEM.
    pub fn pem(&self) -> String {
        self.pem.clone()
    }

    /// Whoever trusts this authority alone.
    pub(crate) fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).map_err(|error| TlsError::Authority(error.to_string()))?;
        Ok(roots)
    }

    /// Issues a certificate with a new key, which is never stored.
    pub(crate) fn issue(&self, leaf: Leaf<'_>) -> Result<Material, TlsError> {
        let wrong = |error: rcgen::Error| TlsError::Authority(error.to_string());
        let now = self.clock.now_ms();
        let key = KeyPair::generate().map_err(wrong)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(leaf.common_name);
        params.subject_alt_names = leaf.names;
        params.not_before = moment(now - BEFORE_MS);
        params.not_after = moment(now.saturating_add(i64::try_from(leaf.life.as_millis()).unwrap_or(i64::MAX)));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = leaf.usages;
        params.use_authority_key_identifier_extension = true;
        let issued = params.signed_by(&key, &self.issuer).map_err(wrong)?;
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Material::new(vec![issued.der().clone(), self.certificate.clone()], secret)
    }
}

/// What a certificate is to say.
pub(crate) struct Leaf<'a> {
    pub(crate) common_name: &'a str,
    pub(crate) names: Vec<SanType>,
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) life: Duration,
}

fn make(kind: Kind, now_ms: i64) -> Result<Vec<u8>, TlsError> {
    let wrong = |error: rcgen::Error| TlsError::Authority(error.to_string());
    let key = KeyPair::generate().map_err(wrong)?;
    // Clients that trust several installations can tell them apart.
    let tag: String = crate::material::fingerprint(key.der_bytes()).chars().take(8).collect();
    let common_name = format!("bartizan {} {tag}", kind.id());
    let not_before_ms = now_ms - BEFORE_MS;
    let certificate = params(&common_name, not_before_ms).self_signed(&key).map_err(wrong)?;
    let kept = Kept {
        common_name,
        certificate: certificate.der().to_vec(),
        pem: certificate.pem(),
        key: key.serialize_der(),
        not_before_ms,
    };
    serde_json::to_vec(&kept).map_err(|error| TlsError::Authority(error.to_string()))
}

fn params(common_name: &str, not_before_ms: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = moment(not_before_ms);
    let life = i64::try_from(LIFE.as_millis()).unwrap_or(i64::MAX);
    params.not_after = moment(not_before_ms.saturating_add(life));
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn moment(ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(ms / 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
