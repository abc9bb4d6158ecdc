//! A balancer without affinity: every request goes to the next process in turn, over a
//! connection of its own; one that does not answer the door is passed over.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Largest head of a request that is passed on, bytes.
const MAX_HEAD: usize = 64 * 1024;

/// A running balancer; ends when dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Balancer {
    /// In front of these ports of the loopback interface.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(ports: Vec<u16>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let (stopped, turn, ports) = (stop.clone(), Arc::new(AtomicUsize::new(0)), Arc::new(ports));
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stopped.cancelled() => return,
                };
                let Ok((client, _)) = accepted else { continue };
                let (turn, ports, stopped) = (Arc::clone(&turn), Arc::clone(&ports), stopped.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        // What breaks off here breaks off for the client.
                        _ = one(client, &ports, &turn) => {}
                        () = stopped.cancelled() => {}
                    }
                });
            }
        });
        Ok(Self { address, _stop: stop.drop_guard() })
    }

    /// Its URL with a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// One request and its answer.
async fn one(mut client: TcpStream, ports: &[u16], turn: &AtomicUsize) -> Result<()> {
    let (head, mut rest) = head(&mut client).await?;
    let mut missing = 0_usize;
    let mut out = String::new();
    for line in head.split("\r\n") {
        let lower = line.to_ascii_lowercase();
        if let Some(length) = lower.strip_prefix("content-length:") {
            missing = length.trim().parse::<usize>()?.saturating_sub(rest.len());
        }
        // The answer ends with the connection.
        if !lower.starts_with("connection:") {
            out.push_str(line);
            out.push_str("\r\n");
        }
    }
    let mut server = connect(ports, turn).await?;
    server.write_all(format!("{out}connection: close\r\n\r\n").as_bytes()).await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        server.write_all(&rest).await?;
        if missing == 0 {
            break;
        }
        let read = client.read(&mut buffer).await?;
        if read == 0 {
            bail!("the client went away");
        }
        rest = buffer.get(..read).unwrap_or_default().to_vec();
        missing = missing.saturating_sub(read);
    }
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// The head without its empty line, and what came behind it.
async fn head(client: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            bytes.truncate(end);
            return Ok((String::from_utf8(bytes)?, rest));
        }
        let read = client.read(&mut buffer).await?;
        if read == 0 || bytes.len() > MAX_HEAD {
            bail!("no request");
        }
        bytes.extend(buffer.iter().take(read));
    }
}

async fn connect(ports: &[u16], turn: &AtomicUsize) -> Result<TcpStream> {
    for _ in ports {
        let at = turn.fetch_add(1, Ordering::Relaxed) % ports.len();
        let port = ports.get(at).context("no ports")?;
        if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await {
            return Ok(stream);
        }
    }
    bail!("nobody answers the door")
}
