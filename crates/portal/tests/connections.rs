//! O11: connections that only cost something are ended. The client speaks HTTP/2 frame
//! by frame, as no library would.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails")]

mod support;

use std::time::Duration;

use support::World;
use support::stack::{ALICE, Setup};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Far beyond every bound that is tested; reached only when something hangs.
const LONG: Duration = Duration::from_secs(20);

const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
/// RFC 9113 section 7.
const ENHANCE_YOUR_CALM: u32 = 0xb;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// RFC 7541 section 6.2.2: literal header fields, without Huffman coding.
fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(0);
    for text in [name, value] {
        let length = text.len();
        if length < 127 {
            out.push(u8::try_from(length).unwrap());
        } else {
            out.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                out.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            out.push(u8::try_from(rest).unwrap());
        }
        out.extend(text.as_bytes());
    }
}

fn get(world: &World, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", &world.address)] {
        field(&mut out, name, value);
    }
    for (name, value) in more {
        field(&mut out, name, value);
    }
    out
}

async fn connect(world: &World) -> TcpStream {
    let mut stream = TcpStream::connect(&world.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// The next frame, None at the end of the connection.
async fn next(stream: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    let read = tokio::time::timeout(LONG, stream.read_exact(&mut head)).await.unwrap();
    read.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Frame { kind: head[3], stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload })
}

/// Reads to the end of the connection; the codes of the GOAWAY frames.
async fn goodbye(stream: &mut TcpStream) -> Vec<u32> {
    let mut codes = Vec::new();
    while let Some(frame) = next(stream).await {
        if frame.kind == GOAWAY {
            codes.push(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
        }
    }
    codes
}

async fn stays_open(stream: &mut TcpStream, time: Duration) {
    let quiet = async { while next(stream).await.is_some() {} };
    assert!(tokio::time::timeout(time, quiet).await.is_err(), "the connection ended");
}

#[tokio::test]
async fn o11_an_idle_http2_connection_is_closed() {
    let world = World::with(Setup { connection_idle_ms: 200, ..Setup::default() }).await;
    // Told politely, and when it does not answer, closed all the same.
    assert_eq!(goodbye(&mut connect(&world).await).await.first(), Some(&0));
    // Never more than the beginning of a preface.
    let mut half = TcpStream::connect(&world.address).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0").await.unwrap();
    assert!(goodbye(&mut half).await.is_empty());
    assert_eq!(world.drain.connections(), 0);
}

/// The attack: without the bound both stay, for as long as the client likes.
#[tokio::test]
async fn o11_without_the_bound_idle_connections_stay() {
    let world = World::with(Setup { connection_idle_ms: 3_600_000, ..Setup::default() }).await;
    let mut half = TcpStream::connect(&world.address).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0").await.unwrap();
    let mut whole = connect(&world).await;
    tokio::join!(stays_open(&mut half, Duration::from_secs(4)), stays_open(&mut whole, Duration::from_secs(4)));
    assert_eq!(world.drain.connections(), 2);
}

#[tokio::test]
async fn o11_an_open_stream_is_not_idle() {
    let world = World::with(Setup { connection_idle_ms: 200, ..Setup::default() }).await;
    let mut stream = connect(&world).await;
    let bearer = format!("Bearer {ALICE}");
    let headers = get(&world, "/servers/fix/sse", &[("authorization", &bearer), ("accept", "text/event-stream")]);
    stream.write_all(&frame(HEADERS, 5, 1, &headers)).await.unwrap();
    while next(&mut stream).await.unwrap().stream != 1 {}
    stays_open(&mut stream, Duration::from_secs(4)).await;
    stream.write_all(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])).await.unwrap();
    assert_eq!(goodbye(&mut stream).await.first(), Some(&0));
}

/// CVE-2023-44487: requests that are taken back at once, as many as fit on the wire.
#[tokio::test]
async fn o11_rapid_resets_end_the_connection() {
    let world = World::start().await;
    let mut stream = connect(&world).await;
    let headers = get(&world, "/mcp", &[]);
    let mut flood = Vec::new();
    for n in 0..400 {
        flood.extend(frame(HEADERS, 5, 2 * n + 1, &headers));
        flood.extend(frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]));
    }
    // The connection may be gone before everything is written.
    let _ = stream.write_all(&flood).await;
    let codes = goodbye(&mut stream).await;
    // What was not read when it closed may take the last frame with it.
    assert!(codes.is_empty() || codes.contains(&ENHANCE_YOUR_CALM), "{codes:?}");
    let answer = support::raw(&world.address, b"GET /mcp HTTP/1.1\r\nHost: x\r\n\r\n", Duration::from_secs(1)).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[tokio::test]
async fn o11_a_head_that_drips_is_not_waited_for() {
    let world = World::with(Setup { client_read_ms: 400, ..Setup::default() }).await;
    let mut stream = TcpStream::connect(&world.address).await.unwrap();
    let mut sent = 0;
    for byte in b"POST /mcp HTTP/1.1\r\nHost: a\r\nX-A: ".iter().chain(std::iter::repeat_n(&b'a', 10_000)) {
        if stream.write_all(&[*byte]).await.is_err() || world.drain.connections() == 0 && sent > 5 {
            break;
        }
        sent += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(sent < 1_000, "{sent} bytes");
}
