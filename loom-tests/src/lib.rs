//! Modelled memories for the ring.
