//! Server-sent events (WHATWG HTML, section 9.2): a decoder for any chunking, and an
//! encoder. `data` is kept as bytes, so messages go on as they came.

use bytes::Bytes;

/// One event. Without `event` its type is `message`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `id`, if this event set one.
    pub id: Option<String>,
    /// `event`, the type.
    pub event: Option<String>,
    /// `data`, lines joined by LF. Empty when the event has no data (a priming event,
    /// or `retry` alone).
    pub data: Bytes,
    /// `retry`: milliseconds to wait before reconnecting.
    pub retry: Option<u64>,
}

impl Event {
    /// An event of type `message`.
    pub fn message(data: Bytes) -> Self {
        Self { data, ..Self::default() }
    }

    /// True when `event` is absent or `message`.
    pub fn is_message(&self) -> bool {
        self.event.as_deref().is_none_or(|event| event == "message")
    }
}

/// An event is larger than allowed. The decoder takes no more input after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {max} bytes")]
pub struct TooLarge {
    /// The limit in bytes.
    pub max: usize,
}

/// Decodes a stream that arrives in chunks.
#[derive(Debug)]
pub struct Decoder {
    max: usize,
    /// The line begun in an earlier chunk.
    line: Vec<u8>,
    data: Vec<u8>,
    next: Event,
    /// The event has a `data`, `id`, `event` or `retry` field.
    seen: bool,
    has_data: bool,
    /// The last byte was CR: an LF now belongs to it.
    after_cr: bool,
    first_line: bool,
    failed: bool,
    last_id: Option<String>,
}

impl Decoder {
    /// A decoder that refuses events of more than `max_event` bytes.
    pub fn new(max_event: usize) -> Self {
        Self {
            max: max_event,
            line: Vec::new(),
            data: Vec::new(),
            next: Event::default(),
            seen: false,
            has_data: false,
            after_cr: false,
            first_line: true,
            failed: false,
            last_id: None,
        }
    }

    /// Takes a chunk and returns the events that end in it. An event without any known
    /// field (comments only) is not reported; one with only `id` or `retry` is, with
    /// empty data. What has not ended when the stream ends is to be dropped.
    ///
    /// # Errors
    /// [`TooLarge`], then and for every later call. Events that ended earlier in the
    /// same chunk are lost with it.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        let mut rest = chunk;
        if self.failed {
            return Err(TooLarge { max: self.max });
        }
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr)
                && let Some(tail) = rest.strip_prefix(b"\n")
            {
                rest = tail;
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.bound(rest.len())?;
                self.line.extend_from_slice(rest);
                break;
            };
            let (head, tail) = rest.split_at(end);
            self.bound(head.len())?;
            self.after_cr = tail.first() == Some(&b'\r');
            rest = tail.get(1..).unwrap_or_default();
            if self.line.is_empty() {
                self.take_line(head, &mut events);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(head);
                self.take_line(&line, &mut events);
                line.clear();
                self.line = line;
            }
        }
        Ok(events)
    }

    /// The last event id the stream set, for `Last-Event-ID`.
    pub fn last_event_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    fn bound(&mut self, more: usize) -> Result<(), TooLarge> {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let held = self.line.len() + self.data.len() + text(&self.next.id) + text(&self.next.event);
        if held + more > self.max {
            self.failed = true;
            (self.line, self.data) = (Vec::new(), Vec::new());
            return Err(TooLarge { max: self.max });
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8], events: &mut Vec<Event>) {
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(text) if self.first_line => text,
            _ => line,
        };
        self.first_line = false;
        if line.is_empty() {
            let mut event = std::mem::take(&mut self.next);
            event.data = Bytes::from(std::mem::take(&mut self.data));
            self.has_data = false;
            if std::mem::take(&mut self.seen) {
                events.push(event);
            }
            return;
        }
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.has_data = true;
            }
            b"event" => self.next.event = Some(String::from_utf8_lossy(value).into_owned()),
            b"id" if !value.contains(&0) => {
                let id = String::from_utf8_lossy(value).into_owned();
                self.last_id = Some(id.clone());
                self.next.id = Some(id);
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                self.next.retry = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            }
            // Comments (an empty field name) and unknown fields.
            _ => return,
        }
        self.seen = true;
    }
}

/// Encodes an event. Line breaks in `data` become several `data` lines; in `id` and
/// `event` they are left out. An event with an id and no data gets an empty `data`
/// line (the priming event of 2025-11-25); one without both gets none, so that no
/// client takes it for a message.
pub fn encode(event: &Event) -> Bytes {
    let mut out = Vec::with_capacity(event.data.len() + 64);
    let mut field = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend(value.iter().filter(|b| !matches!(b, b'\n' | b'\r')));
        out.push(b'\n');
    };
    if let Some(id) = &event.id {
        // An id with a NUL would be ignored.
        field("id", id.replace('\0', "").as_bytes());
    }
    if let Some(name) = &event.event {
        field("event", name.as_bytes());
    }
    if let Some(retry) = event.retry {
        field("retry", retry.to_string().as_bytes());
    }
    if !event.data.is_empty() || event.id.is_some() {
        data_lines(&event.data, &mut out);
    }
    out.push(b'\n');
    out.into()
}

fn data_lines(data: &[u8], out: &mut Vec<u8>) {
    let mut rest = data;
    loop {
        out.extend_from_slice(b"data: ");
        let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else {
            out.extend_from_slice(rest);
            out.push(b'\n');
            return;
        };
        let (head, tail) = rest.split_at(end);
        out.extend_from_slice(head);
        out.push(b'\n');
        rest = tail.strip_prefix(b"\r\n").or_else(|| tail.get(1..)).unwrap_or_default();
    }
}

/// A comment, which keeps a quiet connection open.
pub fn comment() -> Bytes {
    Bytes::from_static(b":\n\n")
}
