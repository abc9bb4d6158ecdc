//! The fuzz targets over seeds and noise (row O15).
#![allow(unreachable_pub, reason = "shared with the fuzzer")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails")]

#[path = "targets/mod.rs"]
mod targets;

use proptest::prelude::*;

/// Inputs of every kind, good and bad, that the noise starts from.
const SEEDS: [&str; 16] = [
    "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUiLCJhdWQiOiJiYXJ0aXphbiJ9.",
    "eyJhbGciOiJIUzI1NiJ9.e30.AAAA",
    "eyJhbGciOiJFUzI1NiIsImtpZCI6Im9uZSJ9.eyJhdWQiOiJiYXJ0aXphbiJ9.AAAA",
    "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\",\"kid\":\"one\"}]}",
    "http://127.0.0.1:3000/callback",
    "http://localhost/callback",
    "http://[::1]:9/cb",
    "https://app.example/cb?x=1",
    "cursor://anysphere.cursor-mcp/oauth/callback",
    "https://user@evil.example\\@app.example/cb#f",
    "javascript:alert(1)",
    "Bearer resource_metadata=\"https://h/.well-known/x\", scope=\"a b\", Basic realm=\"x\"",
    "Bearer error=\"invalid_token\", resource_metadata=\"https://h/\\\"q\"",
    "{\"redirect_uris\":[\"http://127.0.0.1/cb\"],\"client_name\":\"x\"}",
    "{\"access_token\":\"a\",\"token_type\":\"bearer\",\"expires_in\":\"3600\"}",
    "HTTPS://Mcp.Example.com:443/mcp/",
];

#[test]
fn o15_oauth_targets_hold_for_the_seeds() {
    for (_, target) in targets::ALL {
        SEEDS.iter().for_each(|seed| target(seed.as_bytes()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn o15_oauth_targets_hold_for_noise(
        seed in 0..SEEDS.len(),
        cut in any::<proptest::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..24),
        at in any::<proptest::sample::Index>(),
        splice in "[ -~]{0,12}",
    ) {
        let seed = SEEDS[seed].as_bytes();
        let cut = cut.index(seed.len() + 1);
        let at = at.index(seed.len() + 1);
        let inputs = [
            noise.clone(),
            [&seed[..cut], &noise, &seed[cut..]].concat(),
            [&seed[..at], splice.as_bytes(), &seed[at..]].concat(),
            seed[..cut].to_vec(),
        ];
        for (_, target) in targets::ALL {
            inputs.iter().for_each(|input| target(input));
        }
    }
}
