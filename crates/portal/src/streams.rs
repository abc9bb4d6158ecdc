//! Server-sent event streams: a bounded buffer between whoever produces messages and
//! the response body that carries them. Legacy streams keep what was sent, so that a
//! client can resume with `Last-Event-ID` (protocol section 2); modern streams do not.

mod channel;
mod reader;

pub(crate) use channel::{Channel, Gone, Kept, StreamId};
pub(crate) use reader::{Reader, Seat};

/// The event id of a message: it names its stream, and its place in it.
pub(crate) fn event_id(stream: StreamId, seq: u64) -> String {
    format!("{stream}.{seq}")
}

/// Reads an event id back. None for anything this gateway did not write.
pub(crate) fn parse_event_id(text: &str) -> Option<(StreamId, u64)> {
    let (stream, seq) = text.split_once('.')?;
    let digits = |part: &str| {
        let plain = !part.is_empty() && part.len() <= 19 && part.bytes().all(|b| b.is_ascii_digit());
        if plain { part.parse::<u64>().ok() } else { None }
    };
    Some((digits(stream)?, digits(seq)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p10_event_ids_name_their_stream() {
        assert_eq!(parse_event_id(&event_id(7, 12)), Some((7, 12)));
        for bad in ["", ".", "1", "1.", ".1", "a.b", "1.2.3", "-1.2", "+1.2", "1. 2", "99999999999999999999.1"] {
            assert_eq!(parse_event_id(bad), None, "{bad}");
        }
    }
}
