//! What a client's certificate says (A3): which device it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Longest identity of a device, bytes.
const MAX_DEVICE: usize = 256;

/// Names of devices by what their certificates say.
#[derive(Clone, Debug, Default)]
pub struct DeviceNames(Arc<BTreeMap<String, String>>);

impl DeviceNames {
    /// From the configuration.
    pub fn new(names: BTreeMap<String, String>) -> Self {
        Self(Arc::new(names))
    }

    /// The device a verified certificate names: its first URI, else its first DNS name, else its common name; each only
    /// when it is a plain text. None when it has none of them.
    pub(crate) fn of(&self, certificate: &[u8]) -> Option<Arc<str>> {
        let said = identity(certificate)?;
        Some(self.0.get(&said).map_or_else(|| said.as_str().into(), |name| name.as_str().into()))
    }
}

/// The device of a connection, proved by its client certificate.
#[derive(Clone, Debug)]
pub struct DeviceCertificate {
    device: Arc<str>,
    until_ms: i64,
    withdrawn: Arc<AtomicBool>,
}

impl DeviceCertificate {
    pub(crate) fn new(device: Arc<str>, until_ms: i64, withdrawn: Arc<AtomicBool>) -> Self {
        Self { device, until_ms, withdrawn }
    }

    /// The device, while the certificate is valid and its authority is the configured one. Asked at every request:
    /// connections live longer than certificates.
    pub fn device(&self, now_ms: i64) -> Option<&Arc<str>> {
        (now_ms < self.until_ms && !self.withdrawn.load(Ordering::Acquire)).then_some(&self.device)
    }
}

fn identity(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()?.map(|found| found.value.general_names.as_slice());
    let names = names.unwrap_or_default();
    let find = |pick: fn(&GeneralName<'_>) -> Option<String>| names.iter().find_map(pick);
    let uri = find(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    let dns = find(|name| match name {
        GeneralName::DNSName(dns) => Some(dns.to_ascii_lowercase()),
        _ => None,
    });
    let common = || parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok().map(str::to_owned));
    let said = uri.or(dns).or_else(common)?;
    let plain = !said.is_empty() && said.len() <= MAX_DEVICE && said.bytes().all(|b| (0x20..0x7f).contains(&b));
    plain.then_some(said)
}

/// The DNS names of a certificate.
pub(crate) fn dns_names(certificate: &[u8]) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(dns) => Some((*dns).to_owned()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(dns).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn made(common: Option<&str>, names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a3_a_certificate_names_its_device() {
        let uri = || SanType::URI("spiffe://corp/laptop/7".try_into().unwrap());
        let dns = || SanType::DnsName("Laptop-7.corp.example".try_into().unwrap());
        let names = DeviceNames::new([("laptop-7.corp.example".to_owned(), "managed".to_owned())].into());
        let of = |common, sans| names.of(&made(common, sans)).map(|device| device.to_string());
        assert_eq!(of(Some("cn"), vec![dns(), uri()]).as_deref(), Some("spiffe://corp/laptop/7"));
        assert_eq!(of(Some("cn"), vec![dns()]).as_deref(), Some("managed"));
        assert_eq!(of(Some("laptop 7"), vec![]).as_deref(), Some("laptop 7"));
        assert_eq!(of(None, vec![]), None);
        assert_eq!(of(Some("bell\u{7}"), vec![]), None);
        assert_eq!(of(Some(&"x".repeat(400)), vec![]), None);
        assert_eq!(names.of(b"no certificate"), None);
    }

    #[test]
    fn a3_a_device_ends_with_its_certificate_or_its_authority() {
        let withdrawn = Arc::new(AtomicBool::new(false));
        let device = DeviceCertificate::new("laptop".into(), 1_000, Arc::clone(&withdrawn));
        assert!(device.device(999).is_some());
        assert!(device.device(1_000).is_none());
        withdrawn.store(true, Ordering::Release);
        assert!(device.device(0).is_none());
    }
}
