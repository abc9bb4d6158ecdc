//! Resolve, check every address, connect to a checked one, then proxy and TLS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::EgressError;
use crate::resolve::Resolve;
use crate::rules::AddressRules;
use crate::stream::Stream;
use crate::url::{Host, Url};

/// Head start of one address before the next is tried beside it (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Most addresses tried for one connection.
const MAX_TRIES: usize = 6;
/// Longest answer of a proxy to CONNECT.
const MAX_PROXY_HEAD: usize = 8 * 1024;

/// Makes connections.
pub(crate) struct Dialer {
    rules: Arc<AddressRules>,
    resolver: Arc<dyn Resolve>,
    proxy: Option<Url>,
    tls: TlsConnector,
    /// For what is not HTTP: no ALPN.
    plain_tls: TlsConnector,
    connect: Duration,
}

impl Dialer {
    pub(crate) fn new(
        rules: Arc<AddressRules>,
        resolver: Arc<dyn Resolve>,
        proxy: Option<Url>,
        tls: Arc<ClientConfig>,
        connect: Duration,
    ) -> Self {
        let mut other = ClientConfig::clone(&tls);
        other.alpn_protocols.clear();
        let plain_tls = TlsConnector::from(Arc::new(other));
        Self { rules, resolver, proxy, tls: TlsConnector::from(tls), plain_tls, connect }
    }

    /// A ready connection to the origin of `url`, within the connect limit.
    pub(crate) async fn dial(&self, url: &Url) -> Result<Stream, EgressError> {
        self.bounded(url, async {
            let tcp = self.tcp(url).await?;
            if url.is_https() { encrypt(&self.tls, url.host(), tcp).await } else { Ok(Stream::Plain(tcp)) }
        })
        .await
    }

    /// The same for another protocol than HTTP; `tls` begins with a handshake.
    pub(crate) async fn dial_other(&self, url: &Url, tls: bool) -> Result<Stream, EgressError> {
        self.bounded(url, async {
            let tcp = self.tcp(url).await?;
            if tls { encrypt(&self.plain_tls, url.host(), tcp).await } else { Ok(Stream::Plain(tcp)) }
        })
        .await
    }

    /// The TLS handshake on a connection that began without (STARTTLS).
    pub(crate) async fn upgrade(&self, url: &Url, stream: Stream) -> Result<Stream, EgressError> {
        match stream {
            Stream::Plain(tcp) => self.bounded(url, encrypt(&self.plain_tls, url.host(), tcp)).await,
            tls @ Stream::Tls(_) => Ok(tls),
        }
    }

    async fn bounded<T>(
        &self,
        url: &Url,
        work: impl Future<Output = Result<T, EgressError>>,
    ) -> Result<T, EgressError> {
        match tokio::time::timeout(self.connect, work).await {
            Ok(done) => done,
            Err(_) => Err(EgressError::ConnectTimeout { host: url.host().to_string() }),
        }
    }

    async fn tcp(&self, url: &Url) -> Result<TcpStream, EgressError> {
        let addresses = self.checked(url).await?;
        match &self.proxy {
            None => connect_any(url.host(), &addresses).await,
            Some(proxy) => self.through(proxy, url, &addresses).await,
        }
    }
}

async fn encrypt(tls: &TlsConnector, host: &Host, tcp: TcpStream) -> Result<Stream, EgressError> {
    let fail = |why: String| EgressError::Tls { host: host.to_string(), why };
    let name = match host {
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|error| fail(error.to_string()))?,
        Host::Ip(ip) => ServerName::from(*ip),
    };
    let done = tls.connect(name, tcp).await.map_err(|error| fail(error.to_string()))?;
    Ok(Stream::Tls(Box::new(done)))
}

impl Dialer {
    /// The addresses of a host, all of which passed. One blocked address refuses the host:
    /// a name that mixes public and private answers is a rebinding attempt or a mistake.
    async fn checked(&self, url: &Url) -> Result<Vec<SocketAddr>, EgressError> {
        let host = url.host();
        let found = match host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => self.resolver.resolve(name).await?,
        };
        if found.is_empty() {
            return Err(EgressError::Dns { host: host.to_string(), why: "no address".to_owned() });
        }
        for ip in &found {
            self.rules.check(host, *ip).map_err(|rule| EgressError::Blocked { rule, host: host.to_string() })?;
        }
        Ok(interleave(found).into_iter().take(MAX_TRIES).map(|ip| SocketAddr::new(ip, url.port())).collect())
    }

    /// A tunnel to a checked address. The proxy is given the address, not the name, so that it
    /// cannot resolve the name to something else.
    async fn through(&self, proxy: &Url, url: &Url, to: &[SocketAddr]) -> Result<TcpStream, EgressError> {
        let fail = |why: &str| EgressError::Connect { host: url.host().to_string(), why: format!("proxy: {why}") };
        let ips = match proxy.host() {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => self.resolver.resolve(name).await?,
        };
        let proxy_at: Vec<SocketAddr> =
            interleave(ips).into_iter().take(MAX_TRIES).map(|ip| SocketAddr::new(ip, proxy.port())).collect();
        let target = to.first().ok_or_else(|| fail("no address"))?;
        let mut tcp = connect_any(proxy.host(), &proxy_at).await?;
        let ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        tcp.write_all(ask.as_bytes()).await.map_err(|error| fail(&error.to_string()))?;
        let mut head = Vec::with_capacity(256);
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_PROXY_HEAD {
                return Err(fail("answer too long"));
            }
            // Byte by byte: nothing after the head may be swallowed.
            head.push(tcp.read_u8().await.map_err(|error| fail(&error.to_string()))?);
        }
        let ok = head.starts_with(b"HTTP/1.1 200") || head.starts_with(b"HTTP/1.0 200");
        if ok { Ok(tcp) } else { Err(fail("CONNECT refused")) }
    }
}

/// Alternates families, keeping the resolver's order within each (RFC 8305 section 4).
fn interleave(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (mut a, mut b): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(|ip| ip.is_ipv6() == first_is_v6);
    let mut out = Vec::with_capacity(a.len() + b.len());
    a.reverse();
    b.reverse();
    while !a.is_empty() || !b.is_empty() {
        out.extend(a.pop());
        out.extend(b.pop());
    }
    out
}

/// The first connection that succeeds; a new address joins in every 250 ms.
pub(crate) async fn connect_any(host: &Host, addresses: &[SocketAddr]) -> Result<TcpStream, EgressError> {
    let mut waiting = addresses.iter().copied();
    let mut running = FuturesUnordered::new();
    let mut why = "no address".to_owned();
    running.extend(waiting.next().map(TcpStream::connect));
    loop {
        let more = waiting.len() > 0;
        tokio::select! {
            done = running.next(), if !running.is_empty() => match done {
                Some(Ok(tcp)) => {
                    // Small requests and answers: latency matters more than segment size.
                    let _ = tcp.set_nodelay(true);
                    return Ok(tcp);
                }
                Some(Err(error)) => {
                    why = error.to_string();
                    running.extend(waiting.next().map(TcpStream::connect));
                }
                None => {}
            },
            () = tokio::time::sleep(STAGGER), if more => running.extend(waiting.next().map(TcpStream::connect)),
            else => return Err(EgressError::Connect { host: host.to_string(), why }),
        }
    }
}

/// Parses `egress.proxy`.
pub(crate) fn proxy_url(text: &str) -> Result<Url, EgressError> {
    let url = Url::parse(text).map_err(|error| EgressError::Config(format!("proxy: {error}")))?;
    if url.is_https() || url.path_and_query().as_str() != "/" {
        return Err(EgressError::Config("proxy: must be of the form http://host:port".to_owned()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_alternate_families() {
        let list = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(
            interleave(list(&["2606::1", "2606::2", "1.1.1.1", "1.1.1.2"])),
            list(&["2606::1", "1.1.1.1", "2606::2", "1.1.1.2"])
        );
        assert_eq!(interleave(list(&["1.1.1.1", "1.1.1.2", "2606::1"])), list(&["1.1.1.1", "2606::1", "1.1.1.2"]));
    }

    #[test]
    fn o9_proxy_urls() {
        assert!(proxy_url("http://proxy.internal:3128").is_ok());
        for bad in ["https://p:1", "http://u:p@p:1", "p:3128", "http://p/x", "socks5://p:1"] {
            assert!(matches!(proxy_url(bad), Err(EgressError::Config(_))), "{bad}");
        }
    }
}
