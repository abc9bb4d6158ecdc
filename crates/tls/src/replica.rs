//! How the processes of one installation know each other (O17): each issues itself a
//! certificate of the replicas' authority, which names it, for a day; and takes no other.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bartizan_model::Clock;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::client::WebPkiServerVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::authority::{Authority, Leaf};
use crate::client::dns_names;
use crate::error::TlsError;
use crate::material::{Material, fingerprint};
use crate::setup::{H2, Time, provider, unusable};

/// Life of a certificate; renewed after a third.
const LIFE: Duration = Duration::from_secs(86_400);
/// What comes after a node's name in its certificate. Nobody can own it (RFC 6761 section 6.4).
const ZONE: &str = ".replica.invalid";

/// The name in the certificate of a node.
pub fn replica_name(node: &str) -> String {
    format!("{}{ZONE}", node.to_ascii_lowercase())
}

/// TLS between processes. Cheap to clone.
#[derive(Clone)]
pub struct ReplicaTls(Arc<Inner>);

struct Inner {
    authority: Authority,
    node: String,
    clock: Arc<dyn Clock>,
    current: ArcSwap<Current>,
}

struct Current {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    fingerprint: String,
    renew_ms: i64,
}

impl ReplicaTls {
    /// Issues the first certificate of the node.
    ///
    /// # Errors
    /// [`TlsError`] when it cannot be issued.
    pub fn new(authority: Authority, node: &str, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let first = issue(&authority, node, &clock)?;
        let inner = Inner { authority, node: node.to_owned(), clock, current: ArcSwap::from_pointee(first) };
        Ok(Self(Arc::new(inner)))
    }

    /// Issues a new certificate when it is time; true when it did.
    ///
    /// # Errors
    /// [`TlsError`] when it cannot be issued; the former stays in use.
    pub fn rotate(&self) -> Result<bool, TlsError> {
        if self.0.clock.now_ms() < self.0.current.load().renew_ms {
            return Ok(false);
        }
        self.0.current.store(Arc::new(issue(&self.0.authority, &self.0.node, &self.0.clock)?));
        Ok(true)
    }

    /// SHA-256 of the certificate in use, lower-case hex.
    pub fn fingerprint(&self) -> String {
        self.0.current.load().fingerprint.clone()
    }

    /// For connections to other processes: shows the own certificate and takes only one of the authority. Which node
    /// is expected is said by the name to connect to.
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0.current.load().client)
    }

    /// Shakes hands with another process; returns the connection and the name of the node.
    ///
    /// # Errors
    /// When the other side has no certificate of the authority.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<(TlsStream<TcpStream>, String)> {
        let config = Arc::clone(&self.0.current.load().server);
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let names = certificate.map(|certificate| dns_names(certificate)).unwrap_or_default();
        match names.iter().find_map(|name| name.strip_suffix(ZONE)) {
            Some(node) => {
                let node = node.to_owned();
                Ok((stream, node))
            }
            None => Err(std::io::Error::other("the certificate names no process")),
        }
    }
}

fn issue(authority: &Authority, node: &str, clock: &Arc<dyn Clock>) -> Result<Current, TlsError> {
    let name = replica_name(node);
    let material = authority.issue(Leaf {
        common_name: node,
        names: vec![SanType::DnsName(name.as_str().try_into().map_err(unusable)?)],
        usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        life: LIFE,
    })?;
    let Material { certified, not_before_ms, not_after_ms } = material;
    let shown = certified.cert.first().map(|certificate| fingerprint(certificate)).unwrap_or_default();
    let resolver = Arc::new(SingleCertAndKey::from(certified));
    let time = || Arc::new(Time(Arc::clone(clock)));
    let versions = &[&rustls::version::TLS13];
    let roots = Arc::new(authority.roots()?);

    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider()).build().map_err(unusable)?;
    let mut server = ServerConfig::builder_with_details(provider(), time())
        .with_protocol_versions(versions)
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(&resolver) as _);
    server.alpn_protocols = vec![H2.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;

    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build().map_err(unusable)?;
    let mut client = ClientConfig::builder_with_details(provider(), time())
        .with_protocol_versions(versions)
        .map_err(unusable)?
        .with_webpki_verifier(verifier)
        .with_client_cert_resolver(resolver);
    client.alpn_protocols = vec![H2.to_vec()];
    client.resumption = rustls::client::Resumption::disabled();
    Ok(Current {
        server: Arc::new(server),
        client: Arc::new(client),
        fingerprint: shown,
        renew_ms: not_before_ms + (not_after_ms - not_before_ms) / 3,
    })
}
