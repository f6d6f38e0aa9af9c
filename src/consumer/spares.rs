//! Parcels of settled deliveries, kept for the next messages: nothing is allocated for a message.

use std::cell::Cell;
use std::fmt;

use crate::delivery::Parcel;

/// Parcels that are kept.
const SPARES_MAX: usize = 64;

/// Bytes of a parcel's buffer above which it is not kept.
const SPARE_BYTES: usize = 1 << 20;

/// A stack of parcels. (Of cells: it is used through shared references, by one thread, for every message.)
pub(crate) struct Spares {
    parcels: [Cell<Option<Box<Parcel>>>; SPARES_MAX],
    len: Cell<usize>,
}

impl Spares {
    pub(super) fn new() -> Spares {
        Spares { parcels: [const { Cell::new(None) }; SPARES_MAX], len: Cell::new(0) }
    }

    /// A parcel for a message, with an empty buffer; an old one if there is one.
    #[inline(always)]
    pub(super) fn parcel(&self) -> Box<Parcel> {
        let top = self.len.get().wrapping_sub(1);
        match self.parcels.get(top).and_then(Cell::take) {
            Some(parcel) => {
                self.len.set(top);
                parcel
            }
            None => another(),
        }
    }

    /// Keeps a parcel for another message.
    #[inline(always)]
    pub(crate) fn keep(&self, mut parcel: Box<Parcel>) {
        parcel.buffer.clear();
        parcel.settled = false;
        let len = self.len.get();
        if parcel.buffer.capacity() <= SPARE_BYTES
            && let Some(place) = self.parcels.get(len)
        {
            place.set(Some(parcel));
            self.len.set(len + 1);
        }
    }
}

#[inline(never)]
fn another() -> Box<Parcel> {
    Box::default()
}

impl fmt::Debug for Spares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spares").field("len", &self.len.get()).finish_non_exhaustive()
    }
}
