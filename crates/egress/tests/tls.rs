//! O9: own certificate authorities, names checked, nothing trusted by default.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bartizan_config::settings;
use bartizan_egress::{Egress, EgressError};
use bytes::Bytes;
use common::Names;
use http::{HeaderMap, Method};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An authority and a server certificate of its own, made for this run.
struct Authority {
    folder: TempDir,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let names = vec!["tls.example".to_owned(), "127.0.0.1".to_owned()];
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &Issuer::new(params, ca_key)).unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        std::fs::write(folder.path().join("server.pem"), leaf.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Self { folder, certificate: leaf.der().clone(), key }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A TLS server that answers every connection once; returns its port.
async fn server(authority: &Authority) -> u16 {
    let (certs, key) = (vec![authority.certificate.clone()], authority.key.clone_key());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .unwrap();
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let mut head = [0; 4096];
            let _ = tls.read(&mut head).await;
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            let _ = tls.shutdown().await;
        }
    });
    port
}

async fn get(authority: &Authority, cas: &[&str], host: &str, port: u16) -> Result<Bytes, EgressError> {
    let settings = settings::Egress {
        private_allow: vec!["127.0.0.1".to_owned()],
        ca_files: cas.iter().map(|name| authority.file(name)).collect(),
        ..Default::default()
    };
    let names = Names::new(&[("tls.example", &[&["127.0.0.1"]]), ("other.example", &[&["127.0.0.1"]])]);
    let egress = Egress::with_resolver(&settings, Duration::from_secs(5), names)?;
    let url = egress.check_url(&format!("https://{host}:{port}/"))?;
    let response = egress.client().send(&url, Method::GET, HeaderMap::new(), Bytes::new()).await?;
    response.into_body().collect_bytes(100).await
}

#[tokio::test]
async fn o9_own_authorities_are_trusted_for_the_right_names_only() {
    let authority = Authority::new();
    let port = server(&authority).await;
    for host in ["tls.example", "TLS.example.", "127.0.0.1"] {
        assert_eq!(get(&authority, &["ca.pem"], host, port).await.unwrap(), "ok", "{host}");
    }
    for (cas, host) in [(&["ca.pem"][..], "other.example"), (&[], "tls.example"), (&["server.pem"], "other.example")] {
        let failed = get(&authority, cas, host, port).await.unwrap_err();
        assert!(matches!(failed, EgressError::Tls { .. }) && failed.unsent(), "{host}: {failed}");
    }
}
