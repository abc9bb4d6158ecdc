//! O9: own certificate authorities, names checked, nothing trusted by default.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bartizan_config::settings;
use bartizan_egress::{Egress, EgressError};
use bytes::Bytes;
use common::Names;
use http::{HeaderMap, Method};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A TLS server that answers every connection once; returns its port.
async fn server() -> u16 {
    let certs = CertificateDer::pem_file_iter(data("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(data("server.key")).unwrap();
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

async fn get(cas: &[&str], host: &str, port: u16) -> Result<Bytes, EgressError> {
    let settings = settings::Egress {
        private_allow: vec!["127.0.0.1".to_owned()],
        ca_files: cas.iter().map(|name| data(name)).collect(),
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
    let port = server().await;
    for host in ["tls.example", "TLS.example.", "127.0.0.1"] {
        assert_eq!(get(&["ca.pem"], host, port).await.unwrap(), "ok", "{host}");
    }
    for (cas, host) in [(&["ca.pem"][..], "other.example"), (&[], "tls.example"), (&["server.pem"], "other.example")] {
        let failed = get(cas, host, port).await.unwrap_err();
        assert!(matches!(failed, EgressError::Tls { .. }) && failed.unsent(), "{host}: {failed}");
    }
}
