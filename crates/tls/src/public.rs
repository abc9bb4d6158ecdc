//! The public listener's certificate (O8): read from files or issued by the authority of
//! the installation, and changed while connections go on. A change concerns handshakes
//! that begin after it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bartizan_model::Clock;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::authority::{Authority, Leaf};
use crate::client::{DeviceCertificate, DeviceNames};
use crate::error::TlsError;
use crate::material::{Material, certificates, validity};
use crate::setup::{H2, HTTP11, Time, provider, unusable};

/// Life of a certificate of the own authority; renewed after two thirds.
const LIFE: Duration = Duration::from_secs(30 * 86_400);

/// Between two tries to issue a certificate.
const RETRY_MS: i64 = 600_000;

/// Where the certificate comes from.
pub enum Source {
    /// PEM files.
    Files {
        /// The chain.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// The authority of the installation.
    Internal {
        /// Signs.
        authority: Box<Authority>,
        /// Host names and addresses at this moment, without ports; the first is the public URL's.
        names: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    },
}

/// What the public listener's TLS is made of.
pub struct PublicTlsDeps {
    /// The certificate.
    pub source: Source,
    /// Authorities of client certificates; without them none is asked for.
    pub client_ca: Option<PathBuf>,
    /// Names of devices.
    pub device_names: DeviceNames,
    /// Time, for validity.
    pub clock: Arc<dyn Clock>,
}

/// TLS of the public listener. Cheap to clone.
#[derive(Clone)]
pub struct PublicTls(Arc<Inner>);

struct Inner {
    deps: PublicTlsDeps,
    current: ArcSwap<Current>,
    looked: Mutex<Looked>,
}

struct Current {
    config: Arc<ServerConfig>,
    not_after_ms: i64,
    /// When a certificate of the own authority is issued anew.
    renew_ms: i64,
    names: Vec<String>,
    authorities: u64,
    withdrawn: Arc<AtomicBool>,
}

/// What the files looked like.
#[derive(Default)]
struct Looked {
    taken: u64,
    /// Seen at the last look, and refused unless it changes.
    last: u64,
    refused: Option<(u64, String)>,
}

/// What a look brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new certificate, or new authorities of clients, are in use.
    Taken,
    /// What is there cannot be used; the former stays.
    Refused(String),
}

/// How the certificate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `files` or `internal`.
    pub source: &'static str,
    /// Its end, milliseconds since the epoch.
    pub not_after_ms: i64,
    /// It has ended.
    pub expired: bool,
    /// Why a newer one is not in use.
    pub refused: Option<String>,
}

/// A client that has shaken hands.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TlsStream<TcpStream>,
    /// HTTP/2 was agreed on.
    pub h2: bool,
    /// The device its certificate names.
    pub device: Option<DeviceCertificate>,
}

impl PublicTls {
    /// Reads or issues the first certificate. One that has expired is taken here, with a warning: it is replaced as
    /// soon as there is another, without a restart.
    ///
    /// # Errors
    /// [`TlsError`] for everything else that cannot be used.
    pub fn new(deps: PublicTlsDeps) -> Result<Self, TlsError> {
        let seen = print(&deps);
        let now_ms = deps.clock.now_ms();
        let current = load(&deps, None)?;
        if now_ms >= current.not_after_ms {
            tracing::error!("the certificate of the public listener has expired; clients will refuse it");
        }
        let looked = Looked { taken: seen, last: seen, refused: None };
        Ok(Self(Arc::new(Inner { deps, current: ArcSwap::from_pointee(current), looked: Mutex::new(looked) })))
    }

    /// Looks for something new. To be called every second or so; reads files. What cannot be used is reported once,
    /// and only when it stayed the same for two looks: certificate and key are rarely written at once.
    pub fn look(&self) -> Option<Change> {
        let inner = &*self.0;
        let now = print(&inner.deps);
        let mut looked = inner.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let current = inner.current.load_full();
        if now == looked.taken && !current.is_due(&inner.deps) {
            looked.refused = None;
            looked.last = now;
            return None;
        }
        // Files that stay the same stay bad; issuing is tried again after a while.
        let attempt = match inner.deps.source {
            Source::Files { .. } => now,
            Source::Internal { .. } => now ^ u64::try_from(inner.deps.clock.now_ms() / RETRY_MS).unwrap_or(0),
        };
        if looked.refused.as_ref().is_some_and(|(refused, _)| *refused == attempt) {
            return None;
        }
        match load(&inner.deps, Some(&current)) {
            Ok(next) => {
                if next.authorities != current.authorities {
                    current.withdrawn.store(true, Ordering::Release);
                }
                inner.current.store(Arc::new(next));
                *looked = Looked { taken: now, last: now, refused: None };
                Some(Change::Taken)
            }
            Err(_) if looked.last != now => {
                looked.last = now;
                None
            }
            Err(error) => {
                let why = error.to_string();
                looked.refused = Some((attempt, why.clone()));
                Some(Change::Refused(why))
            }
        }
    }

    /// How the certificate stands.
    pub fn standing(&self) -> Standing {
        let current = self.0.current.load();
        let looked = self.0.looked.lock().unwrap_or_else(PoisonError::into_inner);
        Standing {
            source: match self.0.deps.source {
                Source::Files { .. } => "files",
                Source::Internal { .. } => "internal",
            },
            not_after_ms: current.not_after_ms,
            expired: self.0.deps.clock.now_ms() >= current.not_after_ms,
            refused: looked.refused.as_ref().map(|(_, why)| why.clone()),
        }
    }

    /// Shakes hands. Whoever calls bounds the time.
    ///
    /// # Errors
    /// When the client speaks no TLS, an older version, or shows a certificate that is not of the authorities.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<Accepted> {
        let current = self.0.current.load_full();
        let stream = TlsAcceptor::from(Arc::clone(&current.config)).accept(stream).await?;
        let session = stream.get_ref().1;
        let h2 = session.alpn_protocol() == Some(H2);
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let device = certificate.and_then(|certificate| {
            let device = self.0.deps.device_names.of(certificate)?;
            let (_, until_ms) = validity(certificate).ok()?;
            Some(DeviceCertificate::new(device, until_ms, Arc::clone(&current.withdrawn)))
        });
        Ok(Accepted { stream, h2, device })
    }
}

impl Current {
    fn is_due(&self, deps: &PublicTlsDeps) -> bool {
        match &deps.source {
            Source::Files { .. } => false,
            Source::Internal { names, .. } => deps.clock.now_ms() >= self.renew_ms || names() != self.names,
        }
    }
}

fn load(deps: &PublicTlsDeps, former: Option<&Current>) -> Result<Current, TlsError> {
    let now_ms = deps.clock.now_ms();
    let (roots, authorities) = match &deps.client_ca {
        None => (None, 0),
        Some(path) => {
            let found = certificates(path)?;
            let mut hasher = DefaultHasher::new();
            let mut roots = RootCertStore::empty();
            for certificate in found {
                certificate.hash(&mut hasher);
                if validity(&certificate)?.1 <= now_ms {
                    return Err(TlsError::file(path, "an authority of client certificates has expired"));
                }
                roots.add(certificate).map_err(|error| TlsError::file(path, error))?;
            }
            (Some(roots), hasher.finish())
        }
    };
    let mut named = Vec::new();
    let material = match &deps.source {
        Source::Files { cert, key } => {
            let material = Material::read(cert, key)?;
            // At the start there is nothing better than an expired one.
            if former.is_some() {
                material.check(now_ms)?;
            }
            material
        }
        Source::Internal { authority, names } => {
            named = names();
            authority.issue(Leaf {
                // The longest common name is 64 characters; names are elsewhere anyway.
                common_name: named.first().map(String::as_str).filter(|name| name.len() <= 64).unwrap_or("bartizan"),
                names: named.iter().map(|name| alternative(name)).collect::<Result<_, _>>()?,
                usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
                life: LIFE,
            })?
        }
    };
    let (not_before_ms, not_after_ms) = (material.not_before_ms, material.not_after_ms);
    let withdrawn = match former {
        Some(former) if former.authorities == authorities => Arc::clone(&former.withdrawn),
        _ => Arc::default(),
    };
    Ok(Current {
        config: config(deps, material, roots)?,
        not_after_ms,
        renew_ms: not_before_ms + (not_after_ms - not_before_ms) / 3 * 2,
        names: named,
        authorities,
        withdrawn,
    })
}

fn config(
    deps: &PublicTlsDeps,
    material: Material,
    roots: Option<RootCertStore>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_details(provider(), Arc::new(Time(Arc::clone(&deps.clock))))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(unusable)?;
    let asks = roots.is_some();
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .allow_unauthenticated()
                .build()
                .map_err(unusable)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(material.certified)));
    config.alpn_protocols = vec![H2.to_vec(), HTTP11.to_vec()];
    if asks {
        // A resumed session would bring a certificate that nobody looks at again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// A name as it stands in a certificate.
fn alternative(name: &str) -> Result<SanType, TlsError> {
    let plain = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    match plain.parse::<IpAddr>() {
        Ok(ip) => Ok(SanType::IpAddress(ip)),
        Err(_) => Ok(SanType::DnsName(name.try_into().map_err(unusable)?)),
    }
}

/// A hash over the contents of all files.
fn print(deps: &PublicTlsDeps) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut one = |path: &PathBuf| {
        let length = std::fs::metadata(path).map_or(0, |about| about.len());
        length.hash(&mut hasher);
        // Larger files are refused anyway.
        if length <= 1 << 20 {
            std::fs::read(path).ok().hash(&mut hasher);
        }
    };
    if let Source::Files { cert, key } = &deps.source {
        one(cert);
        one(key);
    }
    if let Some(path) = &deps.client_ca {
        one(path);
    }
    if let Source::Internal { names, .. } = &deps.source {
        names().hash(&mut hasher);
    }
    hasher.finish()
}
