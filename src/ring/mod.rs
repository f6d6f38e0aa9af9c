//! The ring: who may take which slot, and who holds which message.
//!
//! This is the algorithm and nothing else. It owns no memory, reads no clock and asks no kernel: it touches
//! shared words through [`Memory`](crate::memory::Memory), and time and proofs of death are arguments. So the
//! code that ships is the code that the models run.
//!
//! # Positions, slots, laps
//!
//! A queue has `N` slots, a power of two. A **position** is a number from `N` on; its slot is `position % N`,
//! its **lap** `position / N`, kept as a wrapping `u32` and compared on a circle. Zeroed memory is a valid
//! ring, empty, before lap 1.
//!
//! A position is *decided* when the claim word of its slot has its lap or a later one. Producers decide the
//! first undecided position or none, so the decided ones are a prefix; it ends at the **tail**. A decided
//! position holds a message, or will (*unfinished*), or never will (*void*), or was *skipped*. Where a group
//! has got to is its **head**. Both are written down as hints, which may lag; the truth is in the ledgers.
//!
//! # Three ledgers
//!
//! | ledger | one word a slot | written by |
//! |---|---|---|
//! | **claim** | last decided lap, laps skipped since the last message, its claimant ([`Claim`]) | producers |
//! | **seq** | lap, READY or VOID, length; next to the payload ([`Seq`]) | the claimant; whoever has proved it dead |
//! | **lease** | lap, state, failures, holder, turn ([`Lease`]), and a second word with a time ([`Due`]); one ledger for each group | consumers of that group, the sweep, whoever has proved the holder dead |
//!
//! *Why three, and not one word a slot that both sides write?* What crosses from core to core is what costs.
//! A word that a waiting consumer polls must be written once for each message, by a plain store, after the
//! payload on the same line: a compare-and-swap there costs a second trip between the cores. So producers
//! keep their books in lines that only producers touch, consumers in lines that only consumers touch, and
//! only the line with `seq` and the payload crosses. A producer has to read the leases now and then; it reads
//! them for a whole run of slots at a time. And since each ledger has one kind of writer, a writer that is
//! alone in its role needs no locked instruction: the same words, by plain stores.
//!
//! # The life of a slot
//!
//! In lap `k`, on the producers' side. `L` is the lap of the slot's last message: `claim.lap - claim.skips`.
//!
//! ```text
//!      claim k-1 ----------------------------------------------+
//!          |                                                   |
//!          | L is void, or every group has settled it          | a group still holds L, or its claimant still writes,
//!          | claim: CAS to k, skips 0, me                      | and a slot further on is free
//!          v                                                   | claim: CAS to k, skips + 1
//!      UNFINISHED: claim k, seq before k                       v
//!          |                        |                      SKIPPED: seq and leases untouched
//!          | write the payload      | given up: store,
//!          | seq: store             | or its claimant is dead: CAS
//!          v                        v
//!      READY k, length            VOID k
//! ```
//!
//! And in one group. Groups know nothing of each other.
//!
//! ```text
//!      DONE, an earlier lap
//!          | lease: CAS, turn + 1
//!          v
//!      LEASED k, or TIMED k <-------------------------------------+
//!          |            |                                         |
//!          | ack:       | nack, release, defer, reject: its holder|
//!          | one CAS    | deadline: the sweep                     |
//!          |            | death: whoever has proved it            |
//!          |            v                                         |
//!          |        due: CAS to *back*, time of the next attempt  |
//!          |            | lease: CAS                              | lease: CAS, turn + 1
//!          |            +-------------> RETRY k, failures --------+
//!          |            |                  ^
//!          |            |                  | retried: failures 0
//!          |            +-------------> DEAD k, reason
//!          v                               | purged
//!      DONE k <----------------------------+
//! ```
//!
//! COMMITTING is a state of the format that nobody enters yet. It counts as held.
//!
//! # Publish
//!
//! [`Publisher::claim`] goes on from the first position that it does not know to be decided. The slot there
//! is
//!
//! - **free** if `L` is void, or each group whose start is not after it is DONE with it: the claim is a CAS,
//!   and what follows is the claimant's alone: the payload, then [`finish`](Publisher::finish) or
//!   [`abandon`](Publisher::abandon);
//! - **undelivered** if a group has not come to `L` yet, whatever others make of it: the queue is full, in
//!   order. (So what a group finds more than a lap behind the producers was handed out or is marked.)
//! - **held** if a group has `L` LEASED, TIMED, RETRY or DEAD, or passed it and has not come back to it, or
//!   if its claimant still writes. Then the ring goes on around it: if a free slot lies ahead, with none
//!   undelivered before it, the held ones sit out this lap. So a long lease, a delayed retry or a dead letter
//!   costs a slot, never the ring.
//!
//! Free stays free until it is claimed, since nobody leases a message that is settled (but see the birth of a
//! group). So a producer looks up to `RUN` positions ahead, remembers where free ends, and reads consumers'
//! lines once for many messages. Within that run [`Publisher::claim_known`] claims without a look at anything
//! but the claim word.
//!
//! A count of skips that has come to its top stays there, and from then on `L` is the lap in `seq`. That is
//! why a slot whose claimant still writes is skipped up to one below the top only: it is gone round that
//! often, and then the queue is full until it is finished.
//!
//! **Hysteresis when full.** A producer that waits for room and polls the very word that a consumer is about
//! to write keeps taking its line away, and a ring that is steadily full becomes several times slower. So it
//! looks at a word far ahead ([`Publisher::room_ahead`]), goes on in one long run once that is free, and
//! tries the exact next position only after a number of looks, so that a small or slow queue still moves. The
//! mirror image on an empty ring: a consumer reads `seq` in every look, but the claim word of the slot only
//! in every so many (`thorough`).
//!
//! # Receive
//!
//! [`Subscriber::next_returned`] first, if the group's attention word says that something is due; then
//! [`Subscriber::next_fresh`], which looks at its head:
//!
//! - `seq` is READY of this lap: lease it if the lease word is DONE of an earlier lap, else somebody had it:
//!   next.
//! - `seq` is VOID of this lap, or of a later one: next.
//! - `seq` is of an earlier lap: the claim word tells. Not decided: empty. Skipped: next. Unfinished: an
//!   ordered group waits; a relaxed one waits a little, then **passes**: it moves the head on, then marks the
//!   slot.
//!
//! [`Subscriber::next_ready`] is the first of these cases alone, for the hot path.
//!
//! **Marks.** A group has a bit for each slot that holds something to be handed out behind its head: a
//! message that was returned, or one that came *late*, to a position that had been passed. And it has one
//! word, *attention*, for when the first of them is due, which is all that the hot path reads. Both are
//! hints. Where there is a bit the lease word decides; where one is missing the sweep finds the slot. An
//! ordered group looks at the lowest marked position alone, and hands out nothing fresh before that one is
//! due and out again.
//!
//! The attention word is lowered by CAS from what was seen before the bits were gone through, and then they
//! are gone through once more: a mark with a time no earlier than the word's has changed nothing in it, but
//! its bit is there by then.
//!
//! # Settle
//!
//! [`settle::ack`] of a lease with a deadline is one CAS against the very word that the lease returned. A word
//! that has changed means that the lease is lost: nothing is touched. `turn` goes up with each lease, so a word
//! does not come again while somebody remembers it. A lease until death takes a plain store, in shared groups
//! too: only its holder ends it, or whoever has proved that the holder will do nothing more.
//!
//! Everything else that ends a lease goes through the due word first ([`settle::give_back`], the sweep,
//! recovery): CAS from what was seen to *back*, then the lease word, then the mark. From *back* on,
//! [`settle::extend`] fails. Without it a holder could be told that its deadline was moved, by a CAS that
//! comes between the sweep's look at the old deadline and its end of the lease.
//!
//! A due word speaks of the lease whose turn is its tag. After a lease was taken it still has an older one
//! until [`settle::begin`] has written it; a sweep that comes by in the meantime gives the lease a deadline
//! itself, for its holder may be paused for ever. Turns come round after 256: a timed lease takes the next
//! one if the word left over has its own.
//!
//! # Repair
//!
//! Everything in [`repair`] is a CAS from the word seen. It may be done by many at once, a second time, or
//! half; and it may be done late, by someone who woke up after an hour, whose CAS then fails.
//!
//! - [`repair::void_unfinished`], [`repair::return_lease`]: for a participant that is proved dead. Its index
//!   is not given to anyone else before all of it is through, so a word that names it is its own.
//! - [`repair::sweep`]: leases whose time is over, returned messages and late arrivals without a mark. It
//!   needs no proof of death, since it takes no storage: a deadline only redelivers.
//!
//! # Birth of a group
//!
//! The ledger is reset, then the group's bit is set in `active`, *then* its start is read from the tail. A
//! producer may have looked ahead before it could see the bit, and reuses up to `RUN` slots without asking
//! the new group. What lies in them is older than a lap less `RUN`, so it is before the start, and none of
//! the group's business; `RUN` is far below the least `N`. (In the C++ model alone, a look would want a fence
//! against the looker's own claim of a message at or after the start. That claim was at least `N - RUN`
//! claims ago; no processor holds a store back for so long.)
//!
//! A group that begins with the oldest message wants just those that may be overwritten. What is before its
//! *birth*, the tail of that moment, is copied first, and counts if the claim word is still that of the
//! message afterwards.
//!
//! # Invariants
//!
//! The models assert these (`loom-tests`), `verify` looks for what a file can show of them.
//!
//! - **I1** A claim for lap `k + 1` is made from one of lap `k`: the laps of a slot never jump.
//! - **I2** Payload bytes are written only between a won claim and its `seq` store, and only when the slot's
//!   last position is void, or every group that its message is for is DONE with it.
//! - **I3** READY never becomes VOID of the same lap. A position is made VOID by its own claimant, or once
//!   that is proved dead.
//! - **I4** As long as its group is there, a lease word changes by CAS from the word that was seen, or by the
//!   hand of the group's only consumer.
//! - **I5** A message whose publish returned is delivered to every group until that group settles it.
//! - **I6** From every state that can be reached, with one consumer running, everything published can still
//!   be acked and every running producer can still finish. Nobody's death or pause wedges the others; but an
//!   ordered group waits for a living producer, and a queue can be full.
//!
//! # Death between two words
//!
//! | who dies | after | before | what is left | who puts it right |
//! |---|---|---|---|---|
//! | producer | | its claim | nothing | |
//! | | claim | `seq` | an unfinished position: its slot is held, ordered groups wait, relaxed ones pass | recovery: VOID |
//! | | `seq` READY | tail hint, wake-up | a published message; the hint lags | who reads the hint walks on; a sleeper's nap is bounded |
//! | | skip | | a skipped position | |
//! | consumer | lease | due word | a lease with no deadline yet; its count of attempts is what the failures show | recovery: RETRY or DEAD |
//! | | lease | settle | the same, with both; the work may be done already | recovery: RETRY or DEAD; it is delivered again |
//! | | head, in a pass | mark | a position behind the head that nobody looks for | the sweep marks it, once its message is there |
//! | | due word *back* | lease word | a lease that cannot be extended; its time is that of the next attempt | recovery; for a timed lease the sweep too, when that time has come |
//! | | lease word RETRY | bit | a returned message that nobody looks for | recovery or the sweep marks it |
//! | | bit | attention | a bit that nobody looks for | the same: a bit without a time is no mark |
//! | | attention, lowered | second look | the same, if something was returned in between | the same |
//! | | bit, cleared as stale | look after it | a returned message without a mark, if it was returned in between | the same |
//! | | `ack` | wake-up of producers | a settled message | a producer's nap is bounded |
//! | sweep, recovery | any | any | what it had not come to, and at worst a *back* or a RETRY as above | the next one |
//! | maker of a group | `active` bit | its state | a group that holds slots and has no users | whoever comes by takes it away (`queue::groups`) |
//!
//! # A pause between two words
//!
//! is as long as it likes: the slot may be many laps on. So nobody acts on what it saw, but on what it sees
//! still to be so:
//!
//! - A claim is made from the claim word of the lap before.
//! - A fresh lease is taken only from DONE of an *earlier* lap. A consumer that read READY, slept, and finds
//!   the word settled for a later lap must not take that for "not handed out yet".
//! - A marked slot is leased from the very word that was looked at. Who looked and slept would else lease a
//!   message that came to the slot since, out of order.
//! - A look at the claim word counts only if `seq` is the same before and after: a newer claim says nothing
//!   about an older `seq`.
//! - A sweep ends a lease from the due word that showed the deadline.
//! - A copy under a lease that can be lost counts only if the lease stands afterwards.
//!
//! # Orderings
//!
//! A CAS, `fetch_or`, `fetch_and` and `fetch_max` are AcqRel. Here is what each edge carries.
//!
//! | written | by | read | by | what is ordered |
//! |---|---|---|---|---|
//! | `seq` READY | `finish`, Release | `seq`, Acquire | `next_fresh`, `next_ready`, `lease_returned`, `stand` | payload and lengths are there |
//! | lease DONE | `ack`, Release or CAS | lease, Acquire | `stand` | the holder's reads come before the next claimant's writes |
//! | lease RETRY | `end`, CAS | lease, Acquire | `returned_at` | its due word is there |
//! | bit | `mark`, `fetch_or` | bits, Acquire | `look_through` | the lease word that it stands for is there |
//! | attention | `mark`, `fetch_max` | attention, Acquire | `next_returned` | the bit is there |
//! | due | `begin`, Release; `end` and `extend`, CAS | due, Acquire | `expire`, `extend`, `give_back` | the lease that the tag names has been taken |
//! | payload bytes | after a Release fence in `Mapped::prepare` | claim or lease | after an Acquire fence (`Held::stands`, `Held::is_whole`, `peek_at`) | who copied bytes of a newer message sees that the slot went on |
//! | `active` | birth, `fetch_or` | `active`, Acquire | `stand` | the ledger was reset, the start is no later than it will be |
//! | anything | a process that is dead | its lock, from the kernel | recovery | all that it ever stored |
//!
//! *Relaxed*, and why that is enough: `head` and `tail` are hints, whoever follows one reads the ledgers. An
//! exclusive producer's claim publishes nothing: who sees an older one sees an undecided position, and
//! recovery comes after the kernel's word. An exclusive consumer's lease is read by producers alone (they see
//! an older one: not settled yet) and by recovery. The first look at a lease word before its CAS: the CAS
//! decides.
//!
//! The edge between a publish and a sleeper, a store and a load on each side, is not here but in
//! `queue::bells`.
//!
//! # Limits
//!
//! Laps are compared on a circle of 2^32, so a message must not stay unsettled in its slot, as a dead letter
//! or otherwise, while 2^31 laps go by: `N * 2^31` messages. A position that a paused producer left
//! unfinished is gone round about a million times (2^20 less 2), and then the queue is full until its owner
//! goes on or dies.

pub mod publish;
pub mod receive;
pub mod repair;
pub mod settle;
mod words;

pub use publish::{Full, Publisher};
pub use receive::{Attention, Found, Leased, Ready, Subscriber, Unfinished};
pub use words::*;
