//! Style, script and icon: compiled in, the same for everybody.

use std::sync::LazyLock;

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};

const STYLE: &str = include_str!("../assets/style.css");
const COPY: &str = include_str!("../assets/copy.js");
const ICON: &str = include_str!("../assets/icon.svg");

/// A word that changes when one of them does: FNV-1a over all.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let bytes = [STYLE, COPY, ICON].into_iter().flat_map(str::bytes);
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
});

pub(crate) fn version() -> &'static str {
    &VERSION
}

/// `GET /assets/{name}`. None when there is no such asset.
pub(crate) fn asset(name: &str) -> Option<Response> {
    let (kind, text) = match name {
        "style.css" => ("text/css; charset=utf-8", STYLE),
        "copy.js" => ("text/javascript; charset=utf-8", COPY),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return None,
    };
    let mut answer = Response::new(Body::from(text));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // Pages name them with their version, so a day is never too long.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));
    Some(answer)
}
