//! Connections to the other processes of the installation (O17). Their addresses come
//! from the registry in the store and are mostly private ones, so the address rules do not
//! apply; instead nothing is said before the other side has shown a certificate of the
//! installation that names the very process that was meant.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

use crate::dial::connect_any;
use crate::error::EgressError;
use crate::resolve::{Resolve, SystemResolver};
use crate::stream::Stream;
use crate::url::Host;

/// Dials other processes of the installation.
pub struct PeerDialer {
    resolver: Arc<dyn Resolve>,
    connect: Duration,
}

/// A connection to a process that has proved who it is.
pub struct PeerStream(Stream);

impl PeerDialer {
    /// `connect` bounds name lookup, dialling and the handshake together.
    pub fn new(connect: Duration) -> Self {
        Self { resolver: Arc::new(SystemResolver::new()), connect }
    }

    /// Connects to `address` (`host:port`); the other side must show a certificate for `name`.
    ///
    /// # Errors
    /// [`EgressError`]; nothing of a request was sent.
    pub async fn dial(&self, address: &str, name: &str, tls: Arc<ClientConfig>) -> Result<PeerStream, EgressError> {
        let work = self.dial_unbounded(address, name, tls);
        match tokio::time::timeout(self.connect, work).await {
            Ok(done) => done,
            Err(_) => Err(EgressError::ConnectTimeout { host: address.to_owned() }),
        }
    }

    async fn dial_unbounded(
        &self,
        address: &str,
        name: &str,
        tls: Arc<ClientConfig>,
    ) -> Result<PeerStream, EgressError> {
        let (host, port) = address.rsplit_once(':').ok_or(EgressError::Url("not host:port"))?;
        let port: u16 = port.parse().map_err(|_| EgressError::Url("not host:port"))?;
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        let (host, ips) = match plain.parse::<IpAddr>() {
            Ok(ip) => (Host::Ip(ip), vec![ip]),
            Err(_) => {
                let name = plain.trim_end_matches('.').to_ascii_lowercase();
                let found = self.resolver.resolve(&name).await?;
                (Host::Name(name), found)
            }
        };
        let addresses: Vec<SocketAddr> = ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        let tcp = connect_any(&host, &addresses).await?;
        let fail = |why: String| EgressError::Tls { host: host.to_string(), why };
        let name = ServerName::try_from(name.to_owned()).map_err(|error| fail(error.to_string()))?;
        let done = TlsConnector::from(tls).connect(name, tcp).await.map_err(|error| fail(error.to_string()))?;
        Ok(PeerStream(Stream::Tls(Box::new(done))))
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
