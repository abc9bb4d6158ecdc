//! Ways to a destination. All connections are made by `egress`.

mod email;
mod syslog;
mod webhook;

use std::time::Duration;

use bartizan_config::alerts::Destination;
use bartizan_egress::Egress;
use bartizan_store::repo::alert::Delivery;

use crate::message::Message;

/// Longest attempt.
const ATTEMPT: Duration = Duration::from_secs(20);

/// Why a message did not arrive. Never holds a secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DeliverError(pub(crate) String);

impl DeliverError {
    pub(crate) fn new(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// One destination.
#[derive(Debug)]
pub(crate) enum Target {
    Webhook(Box<webhook::Webhook>),
    Email(Box<email::Email>),
    Syslog(syslog::Syslog),
}

impl Target {
    /// From the configuration; secrets are resolved. The error is for people.
    pub(crate) fn new(from: &Destination) -> Result<Self, String> {
        match (&from.webhook, &from.email, &from.syslog) {
            (Some(webhook), None, None) => {
                webhook::Webhook::new(webhook).map(|webhook| Self::Webhook(Box::new(webhook)))
            }
            (None, Some(email), None) => email::Email::new(email).map(|email| Self::Email(Box::new(email))),
            (None, None, Some(syslog)) => syslog::Syslog::new(syslog).map(Self::Syslog),
            _ => Err("exactly one of `webhook`, `email` and `syslog` must be there".to_owned()),
        }
    }

    /// One attempt. When it fails, the message may have arrived.
    pub(crate) async fn send(&self, egress: &Egress, delivery: &Delivery, now_ms: i64) -> Result<(), DeliverError> {
        let message: Message = serde_json::from_str(&delivery.body).map_err(DeliverError::new)?;
        let attempt = async {
            match self {
                Self::Webhook(webhook) => webhook.send(egress, delivery, now_ms).await,
                Self::Email(email) => email.send(egress, &delivery.id, &message).await,
                Self::Syslog(syslog) => syslog.send(egress, &message, &delivery.body).await,
            }
        };
        tokio::time::timeout(ATTEMPT, attempt).await.unwrap_or_else(|_| Err(DeliverError::new("no answer in 20 s")))
    }

    /// One attempt to mail somebody who is no destination, through the relay of this one.
    pub(crate) async fn mail(&self, egress: &Egress, delivery: &Delivery, to: &str) -> Result<(), DeliverError> {
        let message: Message = serde_json::from_str(&delivery.body).map_err(DeliverError::new)?;
        let Self::Email(email) = self else { return Err(DeliverError("this is no way for mail".to_owned())) };
        let attempt = email.send_to_one(egress, &delivery.id, &message, to);
        tokio::time::timeout(ATTEMPT, attempt).await.unwrap_or_else(|_| Err(DeliverError::new("no answer in 20 s")))
    }

    pub(crate) fn is_mail(&self) -> bool {
        matches!(self, Self::Email(_))
    }
}

/// `SCHEME://HOST[:PORT]` as a URL that egress takes; the scheme is what comes first.
pub(crate) fn address<'a>(
    text: &'a str,
    schemes: &[(&'a str, u16)],
) -> Result<(&'a str, bartizan_egress::Url), String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let words = || schemes.iter().map(|(name, _)| format!("`{name}://HOST`")).collect::<Vec<_>>().join(", ");
    let found = schemes.iter().find(|(name, _)| *name == scheme);
    let (scheme, port) = *found.ok_or_else(|| format!("`server` must be one of {}", words()))?;
    let rest = rest.trim_end_matches('/');
    let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let full = if has_port { format!("https://{rest}/") } else { format!("https://{rest}:{port}/") };
    let url = bartizan_egress::Url::parse(&full).map_err(|error| error.to_string())?;
    if url.path() != "/" {
        return Err("`server` must have no path".to_owned());
    }
    Ok((scheme, url))
}
