//! E-mail through a relay. `lettre` speaks SMTP; the connection is ours.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use bartizan_config::alerts::Email as Config;
use bartizan_egress::{Egress, Stream, Url};
use bartizan_model::Secret;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::{DeliverError, address};
use crate::message::Message;

/// Most receivers of one destination.
const RECEIVERS: usize = 50;
/// Longest reply before TLS, bytes.
const REPLY: usize = 8 << 10;
/// What the relay says first. After STARTTLS it says nothing, and `lettre` waits for it.
const GREETING: &[u8] = b"220 ready\r\n";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encryption {
    Tls,
    StartTls,
    None,
}

pub(crate) struct Email {
    relay: Url,
    encryption: Encryption,
    from: Mailbox,
    to: Vec<Mailbox>,
    login: Option<(String, Secret<String>)>,
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email").field("relay", self.relay.host()).finish_non_exhaustive()
    }
}

impl Email {
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let schemes = [("smtps", 465), ("smtp+starttls", 587), ("smtp", 25)];
        let (scheme, relay) = address(&config.server, &schemes)?;
        let encryption = match scheme {
            "smtps" => Encryption::Tls,
            "smtp+starttls" => Encryption::StartTls,
            _ => Encryption::None,
        };
        let mailbox = |text: &String| text.parse::<Mailbox>().map_err(|_| format!("`{text}` is not an address"));
        let to: Vec<Mailbox> = config.to.iter().map(mailbox).collect::<Result<_, _>>()?;
        if to.is_empty() || to.len() > RECEIVERS {
            return Err(format!("`to` must have 1 to {RECEIVERS} addresses"));
        }
        let login = match (&config.username, &config.password) {
            (Some(name), Some(password)) => Some((name.clone(), Secret::new(password.clone()))),
            (None, None) => None,
            _ => return Err("`username` and `password` belong together".to_owned()),
        };
        if login.is_some() && encryption == Encryption::None {
            return Err("a password is only sent encrypted: use `smtps://` or `smtp+starttls://`".to_owned());
        }
        Ok(Self { relay, encryption, from: mailbox(&config.from)?, to, login })
    }

    pub(crate) async fn send(&self, egress: &Egress, id: &str, message: &Message) -> Result<(), DeliverError> {
        self.send_to(egress, id, message, &self.to).await
    }

    /// The same message through the same relay to somebody else.
    pub(crate) async fn send_to_one(
        &self,
        egress: &Egress,
        id: &str,
        message: &Message,
        to: &str,
    ) -> Result<(), DeliverError> {
        let to: Mailbox = to.parse().map_err(|_| DeliverError("the owner's address is none".to_owned()))?;
        self.send_to(egress, id, message, &[to]).await
    }

    async fn send_to(&self, egress: &Egress, id: &str, message: &Message, to: &[Mailbox]) -> Result<(), DeliverError> {
        let mail = self.mail(id, message, to)?;
        let stream = egress.connect(&self.relay, self.encryption == Encryption::Tls).await;
        let mut stream = stream.map_err(DeliverError::new)?;
        let greeting = if self.encryption == Encryption::StartTls {
            start_tls(&mut stream).await.map_err(DeliverError::new)?;
            stream = egress.start_tls(&self.relay, stream).await.map_err(DeliverError::new)?;
            GREETING
        } else {
            &[]
        };
        let wire = Box::new(Wire { greeting, stream });
        let hello = ClientId::Domain("bartizan.invalid".to_owned());
        let mut smtp = AsyncSmtpConnection::connect_with_transport(wire, &hello).await.map_err(DeliverError::new)?;
        if let Some((name, password)) = &self.login {
            let login = Credentials::new(name.clone(), password.expose().clone());
            smtp.auth(&[Mechanism::Plain, Mechanism::Login], &login).await.map_err(DeliverError::new)?;
        }
        smtp.send(mail.envelope(), &mail.formatted()).await.map_err(DeliverError::new)?;
        // It is accepted; a bad farewell changes nothing.
        let _ = smtp.quit().await;
        Ok(())
    }

    fn mail(&self, id: &str, message: &Message, to: &[Mailbox]) -> Result<lettre::Message, DeliverError> {
        let data = &message.data;
        let causes: String = data
            .cause
            .as_object()
            .into_iter()
            .flatten()
            // What somebody called himself must not look like a line of ours.
            .map(|(name, value)| {
                format!("{name}: {}\n", value.as_str().unwrap_or_default().replace(char::is_control, " "))
            })
            .collect();
        let text = format!(
            "{}\n\nrule: {}\nseverity: {}\n{causes}events: {}\ntime: {}\naudit event: {}\ninstallation: {}\n",
            message.headline(),
            data.rule,
            data.severity,
            data.count,
            message.timestamp,
            data.event_id,
            data.installation,
        );
        let mut mail = lettre::Message::builder()
            .from(self.from.clone())
            .message_id(Some(format!("<{id}@bartizan.invalid>")))
            .subject(message.headline())
            .header(ContentType::TEXT_PLAIN);
        for to in to {
            mail = mail.to(to.clone());
        }
        mail.body(text).map_err(DeliverError::new)
    }
}

/// The part of the dialogue before TLS (RFC 3207). Nothing that comes before TLS is used after.
async fn start_tls(stream: &mut Stream) -> io::Result<()> {
    reply(stream, "220").await?;
    stream.write_all(b"EHLO bartizan.invalid\r\n").await?;
    reply(stream, "250").await?;
    stream.write_all(b"STARTTLS\r\n").await?;
    reply(stream, "220").await
}

/// Reads one reply, byte by byte so that nothing behind it is swallowed.
async fn reply(stream: &mut Stream, wanted: &str) -> io::Result<()> {
    let mut all = 0;
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            all += 1;
            if all > REPLY {
                return Err(io::Error::other("the relay's reply is too long"));
            }
            line.push(stream.read_u8().await?);
        }
        let text = String::from_utf8_lossy(&line);
        if text.get(3..4) != Some("-") {
            return match text.starts_with(wanted) {
                true => Ok(()),
                false => Err(io::Error::other(format!("the relay said {}", text.trim_end()))),
            };
        }
    }
}

/// A connection, with a greeting before it.
struct Wire {
    greeting: &'static [u8],
    stream: Stream,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.greeting.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let (now, later) = this.greeting.split_at(this.greeting.len().min(buf.remaining()));
        buf.put_slice(now);
        this.greeting = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        // Only asked for in log messages.
        Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }
}
