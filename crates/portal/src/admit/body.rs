//! Reading a request body within its bounds of size and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::Body;
use http_body_util::BodyExt;

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// More bytes than allowed, declared or sent.
    TooLarge,
    /// Not complete in time.
    Timeout,
    /// The connection broke, or the framing is wrong.
    Broken,
}

/// Reads a whole body of at most `limit` bytes within `time`.
pub(crate) async fn read_body<B>(headers: &HeaderMap, body: B, limit: usize, time: Duration) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    if declared.is_some_and(|declared: u64| declared > limit as u64) {
        return Err(BodyError::TooLarge);
    }
    match tokio::time::timeout(time, collect(body, limit)).await {
        Ok(done) => done,
        Err(_elapsed) => Err(BodyError::Timeout),
    }
}

/// Bytes of a refused request that are read for the sake of its connection.
const REST: usize = 256 * 1024;
/// How long they are waited for.
const REST_TIME: Duration = Duration::from_secs(1);

/// Reads what is left of the body of a request that was answered from its headers. Many
/// clients send head and body apart; closing on the unread body would reset the connection,
/// and the client might lose the answer, or its next request on the same connection.
pub(crate) async fn discard_rest<B>(mut body: B)
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() || body.size_hint().lower() > REST as u64 {
        return;
    }
    let rest = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > REST {
                return;
            }
        }
    };
    // Whoever sends more, or slower, loses the connection.
    let _waited = tokio::time::timeout(REST_TIME, rest).await;
}

async fn collect<B>(mut body: B, limit: usize) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    // Most bodies arrive in one piece and are never copied.
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        let have = rest.as_ref().map_or(first.len(), BytesMut::len);
        if have + data.len() > limit {
            return Err(BodyError::TooLarge);
        }
        match &mut rest {
            Some(rest) => rest.extend_from_slice(&data),
            None if first.is_empty() => first = data,
            None => {
                let expected = usize::try_from(body.size_hint().lower()).unwrap_or(0).min(limit);
                let mut all = BytesMut::with_capacity((have + data.len()).saturating_add(expected).min(limit));
                all.extend_from_slice(&first);
                all.extend_from_slice(&data);
                rest = Some(all);
            }
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::Frame;

    use super::*;

    struct Pieces(VecDeque<Result<Bytes, ()>>, bool);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = ();
        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
            match self.0.pop_front() {
                Some(piece) => Poll::Ready(Some(piece.map(Frame::data))),
                None if self.1 => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    async fn read(pieces: &[&'static str], stall: bool, limit: usize) -> Result<Bytes, BodyError> {
        let body = Pieces(pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect(), stall);
        read_body(&HeaderMap::new(), body, limit, Duration::from_secs(30)).await
    }

    #[tokio::test(start_paused = true)]
    async fn p26_bodies_are_bounded_while_reading() {
        assert_eq!(read(&[], false, 4).await.unwrap(), "");
        assert_eq!(read(&["abcd"], false, 4).await.unwrap(), "abcd");
        assert_eq!(read(&["ab", "c", "d"], false, 4).await.unwrap(), "abcd");
        assert_eq!(read(&["abcde"], false, 4).await, Err(BodyError::TooLarge));
        assert_eq!(read(&["ab", "cd", "e"], false, 4).await, Err(BodyError::TooLarge));
        // Over the limit is noticed before the end of the body.
        assert_eq!(read(&["abc", "de"], true, 4).await, Err(BodyError::TooLarge));
        assert_eq!(read(&["abc"], true, 4).await, Err(BodyError::Timeout));
    }

    #[tokio::test]
    async fn p26_a_declared_size_is_enough_to_refuse() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, "5".parse().unwrap());
        let body = Pieces(VecDeque::new(), true);
        assert_eq!(read_body(&headers, body, 4, Duration::from_secs(30)).await, Err(BodyError::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn p26_the_rest_of_a_refused_request_is_read_within_bounds() {
        let mut all = Pieces(["ab", "cd"].map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).into(), false);
        discard_rest(&mut all).await;
        assert!(all.0.is_empty());
        let big = || Ok(Bytes::from(vec![0; REST / 2 + 1]));
        let mut endless = Pieces(VecDeque::from([big(), big(), big(), big()]), false);
        discard_rest(&mut endless).await;
        assert_eq!(endless.0.len(), 2);
        let began = tokio::time::Instant::now();
        discard_rest(&mut Pieces(VecDeque::new(), true)).await;
        assert_eq!(began.elapsed(), REST_TIME);
    }

    #[tokio::test]
    async fn p26_a_broken_body_is_an_error() {
        let body = Pieces(VecDeque::from([Ok(Bytes::from_static(b"a")), Err(())]), false);
        let got = read_body(&HeaderMap::new(), body, 4, Duration::from_secs(30)).await;
        assert_eq!(got, Err(BodyError::Broken));
    }
}
