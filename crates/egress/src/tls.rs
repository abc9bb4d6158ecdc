//! TLS: Mozilla's roots plus the operator's own.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::error::EgressError;

/// Builds the client configuration. HTTP/1.1 only is offered by ALPN.
pub(crate) fn client_config(ca_files: &[PathBuf]) -> Result<Arc<ClientConfig>, EgressError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for path in ca_files {
        let bad = |why: String| EgressError::Config(format!("CA file `{}`: {why}", path.display()));
        let mut found = 0_usize;
        for cert in CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))? {
            let cert = cert.map_err(|error| bad(error.to_string()))?;
            roots.add(cert).map_err(|error| bad(error.to_string()))?;
            found += 1;
        }
        if found == 0 {
            return Err(bad("no certificate in it".to_owned()));
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| EgressError::Config(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o9_ca_files_must_hold_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.pem");
        std::fs::write(&empty, "no certificate here").unwrap();
        let text = client_config(&[empty]).unwrap_err().to_string();
        assert!(text.contains("empty.pem") && text.contains("no certificate"), "{text}");
        assert!(client_config(&[dir.path().join("missing.pem")]).is_err());
        assert!(client_config(&[]).is_ok());
    }
}
