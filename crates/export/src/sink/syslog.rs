//! RFC 5424 over TLS (RFC 5425) or TCP, with octet counting (RFC 6587, section 3.4.1).
//!
//! A collector says nothing. What was written to a connection is only known to have arrived
//! when the collector has read to its end, so each batch is one connection, which is closed by
//! us first; the collector's closing is its receipt.

use std::time::Duration;

use bartizan_config::alerts::Syslog as Config;
use bartizan_config::export::Format;
use bartizan_egress::{Egress, Url};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Batch, SinkError};
use crate::event::Event;
use crate::format;

/// Facility 13, log audit.
const FACILITY: u8 = 13;
/// How long the collector may take to read the rest.
const RECEIPT: Duration = Duration::from_secs(10);

pub(crate) struct Syslog {
    url: Url,
    tls: bool,
}

impl Syslog {
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        let (scheme, rest) = config.server.split_once("://").unwrap_or(("", &config.server));
        let (tls, port) = match scheme {
            "tls" => (true, 6514),
            "tcp" => (false, 514),
            _ => return Err("`server` must be `tls://HOST` or `tcp://HOST`".to_owned()),
        };
        let rest = rest.trim_end_matches('/');
        let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let full = if has_port { format!("https://{rest}/") } else { format!("https://{rest}:{port}/") };
        let url = Url::parse(&full).map_err(|error| error.to_string())?;
        if url.path() != "/" {
            return Err("`server` must have no path".to_owned());
        }
        Ok(Self { url, tls })
    }

    pub(super) async fn send(&self, egress: &Egress, batch: &Batch<'_>) -> Result<(), SinkError> {
        let mut frames = String::new();
        for event in batch.events {
            let line = line(batch.format, event);
            frames.push_str(&format!("{} {line}", line.len()));
        }
        let mut stream = egress.connect(&self.url, self.tls).await.map_err(SinkError::new)?;
        stream.write_all(frames.as_bytes()).await.map_err(SinkError::new)?;
        stream.shutdown().await.map_err(SinkError::new)?;
        let mut rest = [0_u8; 256];
        let end = async {
            loop {
                match stream.read(&mut rest).await {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    // The collector closed the connection without the farewell of TLS.
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                    Err(error) => return Err(SinkError::new(error)),
                }
            }
        };
        let silent = || Err(SinkError::new("the collector did not close the connection, so nothing says that it read"));
        tokio::time::timeout(RECEIPT, end).await.unwrap_or_else(|_| silent())
    }
}

/// One message. Formats never write a line end.
fn line(format: Format, event: &Event) -> String {
    let severity = if event.failed() { 4 } else { 6 };
    let priority = FACILITY * 8 + severity;
    let at = bartizan_model::clock::rfc3339(event.at_ms);
    let kind = event.kind();
    let kind = if kind.is_empty() { "-" } else { kind };
    let text = format::write(format, event);
    // The mark says that it is UTF-8; without one, readers that know none are content.
    let mark = if text.is_ascii() { "" } else { "\u{feff}" };
    format!("<{priority}>1 {at} {} bartizan - {kind} - {mark}{text}", event.writer)
}
