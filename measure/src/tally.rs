//! Counted messages: whether anything was lost, doubled, torn or out of order while it was measured.
//!
//! A message is an *id*, repeated: every 8-byte word of the payload is the id, and a last part of a word its
//! first bytes. So a reader sees a payload that is not one message ("torn") for the price of reading it. The
//! id is the producer and the message's number, from 0. For each producer a [`Tally`] keeps how many it saw,
//! the sum of their numbers and the sum of the squares. Those of all consumers of a group add up, and what
//! came is what was published if all three are the same: a message that is lost while another one is doubled
//! leaves the count right, but not the sums.

use serde::{Deserialize, Serialize};

/// Bits of an id that are the number.
const NUMBER_BITS: u32 = 40;

/// The id of a message that says: there are no more. It is no producer's.
pub const END: u64 = u64::MAX;

/// Bytes between the places that [`fill_pages`] writes to.
const PAGE: usize = 4096;

/// The id of this producer's message with this number, which has at most 40 bits.
#[inline]
pub fn id(producer: usize, number: u64) -> u64 {
    debug_assert!(number < 1 << NUMBER_BITS);
    (producer as u64) << NUMBER_BITS | number
}

/// Whose message it is.
#[inline]
pub fn producer_of(id: u64) -> usize {
    (id >> NUMBER_BITS) as usize
}

/// Which of that producer's messages it is.
#[inline]
pub fn number_of(id: u64) -> u64 {
    id & ((1 << NUMBER_BITS) - 1)
}

/// Makes the payload this message's: all of it is written.
#[inline]
pub fn fill(payload: &mut [u8], id: u64) {
    let (words, rest) = payload.as_chunks_mut::<8>();
    let bytes = id.to_ne_bytes();
    words.fill(bytes);
    let len = rest.len();
    rest.copy_from_slice(&bytes[..len]);
}

/// Reads all of the payload. The id, if it is a whole message; payloads of less than 8 bytes never are.
#[inline]
pub fn check(payload: &[u8]) -> Option<u64> {
    let (words, rest) = payload.as_chunks::<8>();
    let id = u64::from_ne_bytes(*words.first()?);
    // No early end: so the loop has no branches, and takes many words at a time.
    let mut differences = 0;
    for word in words {
        differences |= u64::from_ne_bytes(*word) ^ id;
    }
    let whole = differences == 0 && (rest.is_empty() || rest == &id.to_ne_bytes()[..rest.len()]);
    whole.then_some(id)
}

/// As [`fill`], but of a long payload writes only the first word of every 4 KiB, and the last word: for when
/// the copying of the queue is to be measured, and not the writing before it.
#[inline]
pub fn fill_pages(payload: &mut [u8], id: u64) {
    for page in payload.chunks_mut(PAGE) {
        if let Some(first) = page.first_chunk_mut::<8>() {
            *first = id.to_ne_bytes();
        }
    }
    if let Some(last) = payload.last_chunk_mut::<8>() {
        *last = id.to_ne_bytes();
    }
}

/// As [`check`], for what [`fill_pages`] wrote.
#[inline]
pub fn check_pages(payload: &[u8]) -> Option<u64> {
    let last = payload.last_chunk::<8>()?;
    // The last word overlaps the first one of a last page that is as short as that.
    let firsts = payload.chunks(PAGE).filter(|page| page.len() == 8 || page.len() >= 16);
    let whole = firsts.fold(true, |whole, page| whole & (page.first_chunk::<8>() == Some(last)));
    whole.then_some(u64::from_ne_bytes(*last))
}

/// As [`fill`], but writes only the first word and the last one: for when what does not depend on the length
/// is to be measured.
#[inline]
pub fn fill_ends(payload: &mut [u8], id: u64) {
    if let Some(first) = payload.first_chunk_mut::<8>() {
        *first = id.to_ne_bytes();
    }
    if let Some(last) = payload.last_chunk_mut::<8>() {
        *last = id.to_ne_bytes();
    }
}

/// As [`check`], for what [`fill_ends`] wrote. Of less than two words, only the last one is looked at: it
/// overlaps the first.
#[inline]
pub fn check_ends(payload: &[u8]) -> Option<u64> {
    let (first, last) = (payload.first_chunk::<8>()?, payload.last_chunk::<8>()?);
    (first == last || payload.len() < 16).then_some(u64::from_ne_bytes(*last))
}

/// What was seen, or published, of each producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    producers: Vec<Seen>,
    /// Payloads that were no whole message.
    torn: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    count: u64,
    sum: u64,
    /// Wraps around.
    squares: u64,
    /// The number after the last one seen.
    next: u64,
    /// Messages that came after a later one, or after themselves.
    disorder: u64,
}

/// What is wrong with what was seen, as far as sums can tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// At least as many messages were published and never seen.
    pub lost: u64,
    /// At least as many were seen again, or never published.
    pub duplicated: u64,
    /// Payloads that were no whole message.
    pub torn: u64,
    /// Messages that came after a later one of the same producer: a fault only where order is due.
    pub disorder: u64,
}

impl Tally {
    /// Nothing yet, of this many producers.
    pub fn new(producers: usize) -> Tally {
        Tally { producers: vec![Seen::default(); producers], torn: 0 }
    }

    /// What was published: `counts[p]` messages of producer `p`, numbered from 0.
    pub fn of_published(counts: &[u64]) -> Tally {
        let seen = |&count: &u64| {
            let n = u128::from(count);
            let sum = n * n.saturating_sub(1) / 2;
            // Numbers have 40 bits, so that this has 121.
            let squares = n.saturating_sub(1) * n * (2 * n).saturating_sub(1) / 6;
            Seen { count, sum: sum as u64, squares: squares as u64, next: count, disorder: 0 }
        };
        Tally { producers: counts.iter().map(seen).collect(), torn: 0 }
    }

    /// Counts a message. Says whether it is of a producer that there is, and is not counted otherwise.
    #[inline]
    pub fn add(&mut self, id: u64) -> bool {
        let Some(seen) = self.producers.get_mut(producer_of(id)) else { return false };
        let number = number_of(id);
        seen.count += 1;
        seen.sum = seen.sum.wrapping_add(number);
        seen.squares = seen.squares.wrapping_add(number.wrapping_mul(number));
        seen.disorder += u64::from(number < seen.next);
        seen.next = number + 1;
        true
    }

    /// Counts a payload that was no whole message.
    #[cold]
    pub fn add_torn(&mut self) {
        self.torn += 1;
    }

    /// Reads and counts a payload; the id, if it is a whole message.
    #[inline]
    pub fn take(&mut self, payload: &[u8]) -> Option<u64> {
        let id = check(payload);
        match id {
            Some(id) => {
                self.add(id);
            }
            None => self.add_torn(),
        }
        id
    }

    /// Adds what another consumer saw.
    ///
    /// # Panics
    ///
    /// If it is of another number of producers.
    pub fn merge(&mut self, other: &Tally) {
        assert_eq!(self.producers.len(), other.producers.len(), "tallies of the same producers");
        for (mine, other) in self.producers.iter_mut().zip(&other.producers) {
            mine.count += other.count;
            mine.sum = mine.sum.wrapping_add(other.sum);
            mine.squares = mine.squares.wrapping_add(other.squares);
            mine.disorder += other.disorder;
        }
        self.torn += other.torn;
    }

    /// How many messages there were.
    pub fn count(&self) -> u64 {
        self.producers.iter().map(|seen| seen.count).sum()
    }

    /// How many there were of each producer.
    pub fn counts(&self) -> Vec<u64> {
        self.producers.iter().map(|seen| seen.count).collect()
    }

    /// What is wrong, if this was published.
    ///
    /// # Panics
    ///
    /// If it is of another number of producers.
    pub fn faults(&self, published: &Tally) -> Faults {
        assert_eq!(self.producers.len(), published.producers.len(), "tallies of the same producers");
        let mut faults = Faults { torn: self.torn, ..Faults::default() };
        for (seen, published) in self.producers.iter().zip(&published.producers) {
            let (lost, duplicated) = seen.lost_and_duplicated(published);
            faults.lost += lost;
            faults.duplicated += duplicated;
            faults.disorder += seen.disorder;
        }
        faults
    }
}

impl Seen {
    /// At least how many messages are missing, and how many are too many.
    fn lost_and_duplicated(&self, published: &Seen) -> (u64, u64) {
        let lost = published.count.saturating_sub(self.count);
        let duplicated = self.count.saturating_sub(published.count);
        let sum = published.sum.wrapping_sub(self.sum);
        let squares = published.squares.wrapping_sub(self.squares);
        let explained = match (lost, duplicated) {
            (0, 0) => sum == 0 && squares == 0,
            (1, 0) => sum.wrapping_mul(sum) == squares,
            (0, 1) => sum.wrapping_mul(sum) == squares.wrapping_neg(),
            _ => true,
        };
        // The count hides at least one of each.
        let hidden = u64::from(!explained);
        (lost + hidden, duplicated + hidden)
    }
}

impl Faults {
    /// Whether nothing is wrong, order aside.
    pub fn none(&self) -> bool {
        (self.lost, self.duplicated, self.torn) == (0, 0, 0)
    }

    /// Adds those of another run or group.
    pub fn merge(&mut self, other: &Faults) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.torn += other.torn;
        self.disorder += other.disorder;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(numbers: impl IntoIterator<Item = u64>) -> Tally {
        let mut tally = Tally::new(1);
        numbers.into_iter().for_each(|number| assert!(tally.add(id(0, number))));
        tally
    }

    fn faults(numbers: impl IntoIterator<Item = u64>) -> (u64, u64, u64) {
        let Faults { lost, duplicated, torn, disorder } =
            seen(numbers).faults(&Tally::of_published(&[1_000]));
        assert_eq!(torn, 0);
        (lost, duplicated, disorder)
    }

    #[test]
    fn what_was_published_and_seen_is_no_fault() {
        assert_eq!(faults(0..1_000), (0, 0, 0));
        let (mut even, odd) = (seen((0..1_000).step_by(2)), seen((1..1_000).step_by(2)));
        even.merge(&odd);
        assert_eq!(even.faults(&Tally::of_published(&[1_000])), Faults::default());
        assert_eq!(even.counts(), [1_000]);
        for count in [0, 1, 2, 1 << 39] {
            let published = Tally::of_published(&[count]);
            assert_eq!(published.faults(&published), Faults::default());
        }
    }

    #[test]
    fn what_is_lost_or_doubled_shows() {
        assert_eq!(faults((0..1_000).filter(|&n| n != 17)), (1, 0, 0));
        assert_eq!(faults((0..1_000).filter(|&n| n % 100 != 0)), (10, 0, 0));
        assert_eq!(faults((0..1_000).chain([17])), (0, 1, 1));
        assert_eq!(faults((0..1_000).map(|n| if n == 17 { 18 } else { n })), (1, 1, 1));
        // The sum is right here, and the squares are not.
        let moved = (0..1_000).map(|n| {
            if n == 17 {
                18
            } else if n == 40 {
                39
            } else {
                n
            }
        });
        assert_eq!(faults(moved), (1, 1, 2));
        assert_eq!(faults((0..1_000).filter(|&n| n != 17 && n != 18).chain([20])), (2, 1, 1));
        assert_eq!(faults((1..1_000).chain([0])), (0, 0, 1));
    }

    #[test]
    fn foreign_ids_are_not_counted() {
        let mut tally = Tally::new(2);
        assert!(tally.add(id(1, 0)));
        assert!(!tally.add(id(2, 0)));
        assert!(!tally.add(END));
        assert_eq!(tally.count(), 1);
        assert_eq!((producer_of(id(3, 9)), number_of(id(3, 9))), (3, 9));
    }

    #[test]
    fn a_payload_is_whole_or_torn() {
        for len in [8, 9, 15, 16, 64, 100, 4096, 4104, 10_000] {
            let mut payload = vec![0xaa; len];
            fill(&mut payload, id(5, 77));
            assert_eq!(check(&payload), Some(id(5, 77)), "{len}");
            for at in [0, len / 2, len - 1] {
                payload[at] ^= 1;
                // With one whole word there is next to nothing to compare it with.
                assert!(len < 16 || check(&payload).is_none(), "{len}, {at}");
                payload[at] ^= 1;
            }
        }
        assert_eq!(check(&[0; 7]), None);
        assert_eq!((check_pages(&[0; 7]), check_ends(&[0; 7])), (None, None));
        for len in [8, 9, 16, 17, 4096, 4104, 4106, 8195, 1 << 16] {
            let mut payload = vec![0xaa; len];
            fill_pages(&mut payload, id(5, 77));
            assert_eq!(check_pages(&payload), Some(id(5, 77)), "{len}");
            payload.fill(0xaa);
            fill_ends(&mut payload, id(5, 77));
            assert_eq!(check_ends(&payload), Some(id(5, 77)), "{len}");
            if len >= 16 {
                payload[len - 1] ^= 1;
                assert_eq!((check_pages(&payload), check_ends(&payload)), (None, None), "{len}");
            }
        }
    }

    #[test]
    fn torn_payloads_are_counted() {
        let mut tally = Tally::new(1);
        let mut payload = [0; 64];
        fill(&mut payload, id(0, 0));
        assert_eq!(tally.take(&payload), Some(0));
        payload[60] = 9;
        assert_eq!(tally.take(&payload), None);
        let faults = tally.faults(&Tally::of_published(&[1]));
        assert_eq!((faults.torn, faults.lost, faults.none()), (1, 0, false));
    }
}
