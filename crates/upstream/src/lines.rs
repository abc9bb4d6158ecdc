//! Messages of one line each, bounded.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::UpstreamError;

/// Cuts a byte stream into lines of at most `max` bytes.
pub(crate) struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// How much of the buffer has no line break in it.
    searched: usize,
    max: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(reader: R, max: usize) -> Self {
        Self { reader, buffer: BytesMut::new(), searched: 0, max }
    }

    /// The next line without its break; `None` at the end of the stream. A last line
    /// without a break is dropped: it may be half a message.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|b| *b == b'\n') {
                let mut line = self.buffer.split_to(self.searched + at + 1);
                self.searched = 0;
                line.truncate(line.len() - 1);
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                if line.len() > self.max {
                    return Err(UpstreamError::TooLarge);
                }
                return Ok(Some(line.freeze()));
            }
            self.searched = self.buffer.len();
            if self.searched > self.max {
                return Err(UpstreamError::TooLarge);
            }
            self.buffer.reserve(8 * 1024);
            let read = self.reader.read_buf(&mut self.buffer).await;
            match read {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) => return Err(UpstreamError::unavailable(format!("reading from the program: {error}"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8], max: usize) -> Vec<Result<String, ()>> {
        let mut lines = Lines::new(input, max);
        let mut out = Vec::new();
        loop {
            match lines.next().await {
                Ok(Some(line)) => out.push(Ok(String::from_utf8(line.to_vec()).unwrap())),
                Ok(None) => return out,
                Err(_) => {
                    out.push(Err(()));
                    return out;
                }
            }
        }
    }

    #[tokio::test]
    async fn stdio_lines_are_cut_and_bounded() {
        let ok = |texts: &[&str]| texts.iter().map(|t| Ok((*t).to_owned())).collect::<Vec<_>>();
        assert_eq!(lines(b"a\nbb\r\n\nccc\n", 10).await, ok(&["a", "bb", "", "ccc"]));
        assert_eq!(lines(b"a\nhalf", 10).await, ok(&["a"]));
        assert_eq!(lines(b"12345\n", 5).await, ok(&["12345"]));
        assert_eq!(lines(b"123456\n", 5).await, [Err(())]);
        assert_eq!(lines(&[b'x'; 1 << 20], 1000).await, [Err(())]);
    }
}
