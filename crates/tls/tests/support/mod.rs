//! Certificates and handshakes for tests.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bartizan_model::{Clock, ManualClock};
use bartizan_store::{Store, StoreUrl};
use bartizan_tls::{Accepted, DeviceNames, PublicTls, PublicTlsDeps, Source};
use bartizan_vault::{KeyRing, Records, Vault};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const NOW: i64 = 1_800_000_000_000;
pub(crate) const HOUR: i64 = 3_600_000;
pub(crate) const DAY: i64 = 24 * HOUR;

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(NOW))
}

/// An authority of a test.
pub(crate) struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

pub(crate) struct Made {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Vec<u8>,
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

fn moment(ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(ms / 1000).unwrap()
}

impl TestCa {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for names, valid from one hour before `NOW` until `until_ms`.
    pub(crate) fn issue(&self, names: Vec<SanType>, until_ms: i64) -> Made {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.not_before = moment(NOW - 100 * DAY);
        params.not_after = moment(until_ms);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let issued = params.signed_by(&key, &self.issuer).unwrap();
        Made {
            chain: vec![issued.der().clone()],
            key: key.serialize_der(),
            cert_pem: issued.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    pub(crate) fn server(&self, until_ms: i64) -> Made {
        self.issue(vec![dns("gw.example")], until_ms)
    }
}

pub(crate) fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

pub(crate) struct Files {
    pub(crate) folder: TempDir,
}

impl Files {
    pub(crate) fn new(made: &Made) -> Self {
        let files = Self { folder: TempDir::new().unwrap() };
        files.write(made);
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, made: &Made) {
        std::fs::write(self.path("cert.pem"), &made.cert_pem).unwrap();
        std::fs::write(self.path("key.pem"), &made.key_pem).unwrap();
    }

    pub(crate) fn tls(&self, clock: &Arc<ManualClock>, client_ca: Option<&Path>) -> PublicTls {
        PublicTls::new(self.deps(clock, client_ca)).unwrap()
    }

    pub(crate) fn deps(&self, clock: &Arc<ManualClock>, client_ca: Option<&Path>) -> PublicTlsDeps {
        PublicTlsDeps {
            source: Source::Files { cert: self.path("cert.pem"), key: self.path("key.pem") },
            client_ca: client_ca.map(Path::to_path_buf),
            device_names: DeviceNames::default(),
            clock: Arc::clone(clock) as Arc<dyn Clock>,
        }
    }
}

struct Time(Arc<ManualClock>);

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.now_ms().try_into().unwrap())))
    }
}

/// A client that trusts one authority and may show a certificate.
pub(crate) fn client(clock: &Arc<ManualClock>, trusts: &str, shows: Option<&Made>) -> ClientConfig {
    client_of(clock, trusts, shows, rustls::DEFAULT_VERSIONS)
}

/// The same with certain versions.
pub(crate) fn client_of(
    clock: &Arc<ManualClock>,
    trusts: &str,
    shows: Option<&Made>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusts.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Time(Arc::clone(clock))))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    match shows {
        None => builder.with_no_client_auth(),
        Some(made) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.key.clone()));
            builder.with_client_auth_cert(made.chain.clone(), key).unwrap()
        }
    }
}

pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, server) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), async { listener.accept().await.unwrap().0 });
    (client.unwrap(), server)
}

/// Both sides of a handshake.
pub(crate) async fn shake(
    tls: &PublicTls,
    config: ClientConfig,
) -> (std::io::Result<Accepted>, std::io::Result<TlsStream<TcpStream>>) {
    let (client, server) = pair().await;
    let name = ServerName::try_from("gw.example").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    tokio::join!(tls.accept(server), connector.connect(name, client))
}

pub(crate) async fn store() -> Store {
    Store::open(&StoreUrl::Memory, clock()).await.unwrap()
}

pub(crate) fn records(store: &Store) -> Records {
    Records::new(Vault::new(KeyRing::ephemeral().unwrap()).unwrap(), store.clone())
}
