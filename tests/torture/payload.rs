//! Payloads that can tell whether they are whole: an id, the length, and a body that follows from both.

use crate::clock::Rng;

/// Id and length.
pub(crate) const LEAST: usize = 16;

/// Makes `buffer` the payload of this id with this length (at least [`LEAST`]).
pub(crate) fn fill(id: u64, buffer: &mut [u8]) {
    let length = buffer.len() as u64;
    let (head, body) = buffer.split_at_mut(LEAST);
    head[..8].copy_from_slice(&id.to_le_bytes());
    head[8..].copy_from_slice(&length.to_le_bytes());
    let mut words = body_of(id, length);
    for chunk in body.chunks_mut(8) {
        chunk.copy_from_slice(&words.next().to_le_bytes()[..chunk.len()]);
    }
}

/// The id, and whether every byte is as [`fill`] made it.
pub(crate) fn read(payload: &[u8]) -> (u64, bool) {
    let Some((head, body)) = payload.split_at_checked(LEAST) else { return (0, false) };
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word: u64, &byte| (word << 8) | u64::from(byte));
    let (id, length) = (word(&head[..8]), word(&head[8..]));
    let mut words = body_of(id, length);
    let as_made = |chunk: &[u8]| words.next().to_le_bytes()[..chunk.len()] == *chunk;
    (id, length == payload.len() as u64 && body.chunks(8).all(as_made))
}

fn body_of(id: u64, length: u64) -> Rng {
    Rng::new(id.rotate_left(32) ^ length)
}
