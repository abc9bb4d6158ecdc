//! RFC 5424 over TLS (RFC 5425) or TCP, with octet counting (RFC 6587, section 3.4.1).

use bartizan_config::alerts::Syslog as Config;
use bartizan_egress::{Egress, Url};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{DeliverError, address};
use crate::message::Message;

/// Facility 13, log audit.
const FACILITY: u8 = 13;

#[derive(Debug)]
pub(crate) struct Syslog {
    url: Url,
    tls: bool,
}

impl Syslog {
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let (scheme, url) = address(&config.server, &[("tls", 6514), ("tcp", 514)])?;
        Ok(Self { tls: scheme == "tls", url })
    }

    pub(crate) async fn send(&self, egress: &Egress, message: &Message, body: &str) -> Result<(), DeliverError> {
        let line = line(message, body);
        let mut stream = egress.connect(&self.url, self.tls).await.map_err(DeliverError::new)?;
        let frame = format!("{} {line}", line.len());
        stream.write_all(frame.as_bytes()).await.map_err(DeliverError::new)?;
        stream.shutdown().await.map_err(DeliverError::new)?;
        // The collector says nothing; its closing, or a second of silence, is all there is.
        let mut end = [0_u8; 1];
        let closed = tokio::time::timeout(std::time::Duration::from_secs(1), stream.read(&mut end));
        match closed.await {
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => Err(DeliverError::new(error)),
            _ => Ok(()),
        }
    }
}

/// The message as one line; its JSON is the text.
fn line(message: &Message, body: &str) -> String {
    let severity = match (message.kind.as_str(), message.data.severity.as_str()) {
        ("alert.resolved" | "alert.test", _) => 5,
        (_, "high") => 2,
        (_, "medium") => 4,
        _ => 5,
    };
    let priority = FACILITY * 8 + severity;
    let host: String = host(&message.data.installation).chars().filter(char::is_ascii_graphic).take(255).collect();
    let host = if host.is_empty() { "-" } else { &host };
    // JSON escapes control characters, so the line stays one; the mark says that it is UTF-8.
    format!("<{priority}>1 {} {host} bartizan - {} - \u{feff}{body}", message.timestamp, message.kind)
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', ':']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l14_a_syslog_line_is_one_line_whatever_is_in_it() {
        let json = r#"{"type":"alert.fired","timestamp":"2026-11-03T09:15:00.250Z","data":{"id":"i","rule":"r",
            "severity":"high","cause":{"client":"a\nb"},"count":1,"first_ms":1,"last_ms":1,"event_id":"e",
            "summary":"x\r\n<0>1 forged","installation":"https://mcp.corp.example:8443/gw"}}"#;
        let message: Message = serde_json::from_str(json).unwrap();
        let text = line(&message, &serde_json::to_string(&message).unwrap());
        assert!(
            text.starts_with("<106>1 2026-11-03T09:15:00.250Z mcp.corp.example bartizan - alert.fired - \u{feff}{")
        );
        assert!(!text.contains('\n') && !text.contains('\r'), "{text}");
    }
}
