//! Merkle tree hash (RFC 9162, section 2.1.1) over ends of chains.

use crate::digest::{Hex, sha256};
use crate::verify::Checkpoint;

/// The root; of no heads, SHA-256 of nothing.
pub(super) fn root(heads: &[Checkpoint]) -> Hex {
    let leaves: Vec<[u8; 32]> = heads
        .iter()
        .map(|head| {
            sha256(&[&[0], head.writer.as_bytes(), b":", head.seq.to_string().as_bytes(), b":", head.hash.as_bytes()])
        })
        .collect();
    Hex::from_digest(&tree(&leaves))
}

fn tree(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        more => {
            // The largest power of two below their number; the depth is that of the logarithm.
            let at = more.len().next_power_of_two() / 2;
            let (left, right) = more.split_at(at);
            sha256(&[&[1], &tree(left), &tree(right)])
        }
    }
}
