//! Holds docs/FORMAT.md against the code: each table with an expected one that is computed from the code, row
//! by row. A row that is missing on either side, a table nobody expects, and an expected one that is not
//! there all fail. The tables of the journal are with its code, in `journal::format`.

pub(crate) mod document;

use std::mem::{offset_of, size_of};

use self::document::{check_areas, check_bits, check_fields, check_values, tables};

use super::control::{self, ControlWords, Entry, JournalWords, TailWords};
use super::header::{Header, QUEUE_MAGIC, at};
use super::queue::{self, Attachment, Geometry, GroupWords, NOTES, Note, QueueWords, SLOT_HEADER, group};
use super::{ATTACHMENTS, FORMAT_VERSION, GROUPS_MAX, NAME_MAX, PAGE, PARTICIPANTS};
use crate::delivery::policy::{REASON_CORRUPT, REASON_MAX_DELIVERIES, REASON_REJECTED};
use crate::message::headers::{FIELD_HEAD, MAX_BLOCK, tag};
use crate::participant::table::EntryState;
use crate::queue::attach::{Role, Who, holder_of, role_bits};
use crate::ring::{Claim, Due, FAILURES_MAX, Kind, LEN_MAX, Lease, Owner, SKIPS_MAX, Seq, State, TIME_MAX};

/// Fields with their offsets and sizes.
macro_rules! fields {
    ($type:ty: $($field:ident),+ $(,)?) => {
        [$((stringify!($field), offset_of!($type, $field), size_of_field(|whole: &$type| &whole.$field))),+]
    };
}

fn size_of_field<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// The headings with tables, sorted.
const HEADINGS: [&str; 37] = [
    "Areas of a ledger",
    "Areas of the control file (270336 bytes)",
    "Areas of the queue file",
    "Bits of a claim word",
    "Bits of a due word",
    "Bits of a lease word",
    "Bits of a participant's state",
    "Bits of a role word",
    "Bits of a seq word",
    "Bits of an extent word",
    "Bits of who",
    "COMMIT (64 bytes)",
    "Constants",
    "Constants of the journal",
    "Directory",
    "Field of a header block",
    "Group words (1024 bytes)",
    "Header (128 bytes)",
    "Journal words (320 bytes)",
    "Kinds of record",
    "Kinds of seq",
    "Locks",
    "Names in a journal's directory",
    "Participant entry (256 bytes)",
    "Queue words (512 bytes)",
    "Reasons for death",
    "Record of a producer or consumer (64 bytes)",
    "Record of the journal",
    "Rejection note (256 bytes)",
    "Segment header (64 bytes)",
    "Slot",
    "States of a group",
    "States of a lease",
    "Store words (128 bytes)",
    "Tags of fields",
    "Tail of the journal (40 bytes)",
    "Where a journal ends",
];

#[test]
fn there_is_no_table_that_is_not_checked() {
    assert_eq!(tables().into_keys().collect::<Vec<_>>(), HEADINGS);
}

#[test]
fn the_constants_are_as_documented() {
    let note_text = size_of::<Note>() - offset_of!(Note, text);
    check_values(
        "Constants",
        &[
            (FORMAT_VERSION.into(), "version"),
            (PAGE, "page"),
            (PARTICIPANTS as u64, "participants"),
            (ATTACHMENTS as u64, "records"),
            (GROUPS_MAX.into(), "groups"),
            (NAME_MAX as u64, "name"),
            (NOTES, "notes"),
            (note_text as u64, "note"),
            (SLOT_HEADER, "slot header"),
            (LEN_MAX.into(), "length"),
            (SKIPS_MAX.into(), "skips"),
            (FAILURES_MAX.into(), "failures"),
            (TIME_MAX, "time"),
            (crate::mapped::IDLE_MAX, "idle"),
        ],
    );
    check_values(
        "Locks",
        &[(crate::participant::token::byte_of(0), "participant"), (crate::queue::admin::ADMIN_BYTE, "admin")],
    );
    assert_eq!(MAX_BLOCK, 65_528);
}

#[test]
fn the_header_is_as_documented() {
    let field = |name, at, next| (name, at, next - at);
    check_fields(
        "Header",
        Some(at::END),
        &[
            field("magic", at::MAGIC, at::BYTE_ORDER),
            field("byte order", at::BYTE_ORDER, at::VERSION),
            field("version", at::VERSION, at::INCOMPATIBLE),
            field("incompatible", at::INCOMPATIBLE, at::READ_ONLY_COMPATIBLE),
            field("read-only compatible", at::READ_ONLY_COMPATIBLE, at::COMPATIBLE),
            field("compatible", at::COMPATIBLE, at::FILE_LEN),
            field("file length", at::FILE_LEN, at::STORE_ID),
            field("store id", at::STORE_ID, at::FILE_ID),
            field("file id", at::FILE_ID, at::BOOT_ID),
            field("boot id", at::BOOT_ID, at::CREATED_MS),
            field("created", at::CREATED_MS, at::CAPACITY),
            field("capacity", at::CAPACITY, at::SLOT_SIZE),
            field("slot size", at::SLOT_SIZE, at::MAX_MESSAGE),
            field("max message", at::MAX_MESSAGE, at::MAX_GROUPS),
            field("max groups", at::MAX_GROUPS, at::CRC),
            field("checksum", at::CRC, at::END),
        ],
    );
}

/// The header is written by offset, so the sizes that are written must be the documented ones too.
#[test]
fn the_header_is_written_as_documented() {
    let header = Header {
        magic: QUEUE_MAGIC,
        version: 0x1111_1111,
        incompatible: 0x2222_2222_2222_2222,
        file_len: 0x3333_3333_3333_3333,
        store_id: [0x44; 16],
        file_id: [0x55; 16],
        boot_id: [0x66; 16],
        created_ms: 0x7777_7777_7777_7777,
        capacity: 0x8888_8888_8888_8888,
        slot_size: 0x9999_9999,
        max_message: 0xaaaa_aaaa,
        max_groups: 0xbbbb_bbbb,
    };
    let page = header.encode();
    assert_eq!(page.len() as u64, PAGE);
    let bytes = |fill: u8, n: usize| vec![fill; n];
    let expected = [
        b"RINGWAYQ".to_vec(),
        vec![4, 3, 2, 1],
        bytes(0x11, 4),
        bytes(0x22, 8),
        bytes(0, 16),
        bytes(0x33, 8),
        bytes(0x44, 16),
        bytes(0x55, 16),
        bytes(0x66, 16),
        bytes(0x77, 8),
        bytes(0x88, 8),
        bytes(0x99, 4),
        bytes(0xaa, 4),
        bytes(0xbb, 4),
    ]
    .concat();
    assert_eq!(page[..at::CRC], expected);
    assert_eq!(page[at::CRC..at::END], crc32c::crc32c(&expected).to_le_bytes());
    assert_eq!(&super::header::CONTROL_MAGIC, b"RINGWAYC");
}

#[test]
fn the_control_file_is_as_documented() {
    let [header, words, table] = [0, control::WORDS_AT as usize, control::PARTICIPANTS_AT as usize];
    let len = control::FILE_LEN as usize;
    check_fields(
        "Areas of the control file",
        Some(len),
        &[
            ("header", header, words - header),
            ("words", words, size_of::<ControlWords>()),
            ("journal words", control::JOURNAL_AT as usize, size_of::<JournalWords>()),
            ("durable path", control::DURABLE_PATH_AT as usize, control::DURABLE_PATH_MAX),
            ("participants", table, PARTICIPANTS * size_of::<Entry>()),
        ],
    );
    check_fields("Store words", Some(size_of::<ControlWords>()), &fields!(ControlWords: taken));
    check_fields(
        "Journal words",
        Some(size_of::<JournalWords>()),
        &fields!(JournalWords: level, sync_messages, sync_ms, segment_len, early, current, led_by, tails, low,
            synced_ms, sync_ns, batches, messages, message_bytes, written_bytes, failed, queues, written_bell,
            written_wanted, work_bell),
    );
    check_fields(
        "Tail of the journal",
        Some(size_of::<TailWords>()),
        &fields!(TailWords: segment, offset, lsn, synced, chain),
    );
    check_fields(
        "Participant entry",
        Some(size_of::<Entry>()),
        &fields!(Entry: state, pid, since_ms, process_start, command),
    );
    check_bits(
        "Bits of a participant's state",
        &[
            ("epoch", &|bits| EntryState::from_bits(bits).epoch().into()),
            ("taken", &|bits| EntryState::from_bits(bits).is_taken().into()),
        ],
    );
}

#[test]
fn the_words_of_queues_and_groups_are_as_documented() {
    check_fields(
        "Queue words",
        Some(size_of::<QueueWords>()),
        &fields!(QueueWords: tail, active, sleepers, producer_role, removed, careful,
            groups_changed, space_wanted, space_bell, swept_ms),
    );
    check_fields(
        "Group words",
        Some(size_of::<GroupWords>()),
        &fields!(GroupWords: head, state, start, attention, role, birth, max_deliveries,
            ordered, backoff_base_ms, backoff_cap_ms, backoff_jitter, from_oldest, bell,
            sweep_at, expired, recovered, stale_settles, notes_written, name),
    );
    check_fields("Rejection note", Some(size_of::<Note>()), &fields!(Note: position, len, text));
    check_values(
        "States of a group",
        &[
            (group::FREE, "free"),
            (group::FORMING, "forming"),
            (group::ACTIVE, "active"),
            (group::LEAVING, "leaving"),
        ],
    );
}

#[test]
fn records_and_roles_are_as_documented() {
    check_fields(
        "Record of a producer or consumer",
        Some(size_of::<Attachment>()),
        &fields!(Attachment: who, in_flight),
    );
    let owner = Owner::new(0x5a5);
    assert_eq!(role_bits(owner, 6), 0x5a5 << 32 | 7);
    assert_eq!(holder_of(0x5a5 << 32 | 7), Some(owner));
    check_bits(
        "Bits of a role word",
        &[("owner", &|bits| bits >> 32), ("record", &|bits| bits & 0xffff_ffff)],
    );
    let role = Role::Consumer { group: 0x5a, exclusive: true };
    assert_eq!(Who { owner, role }.encode(), 0x5a << 24 | 4 << 16 | 0x5a5);
    check_bits(
        "Bits of who",
        &[
            ("group", &|bits| bits >> 24 & 0xff),
            ("kind", &|bits| bits >> 16 & 0xff),
            ("owner", &|bits| bits & 0xffff),
        ],
    );
    let kind = |role: Role| Who { owner, role }.encode() >> 16 & 0xff;
    let exclusive = true;
    check_values(
        "Kinds of record",
        &[
            (kind(Role::Producer { exclusive: false }), "producer"),
            (kind(Role::Producer { exclusive }), "exclusive producer"),
            (kind(Role::Consumer { group: 0, exclusive: false }), "consumer"),
            (kind(Role::Consumer { group: 0, exclusive }), "exclusive consumer"),
        ],
    );
}

#[test]
fn the_words_of_the_ring_are_as_documented() {
    check_bits(
        "Bits of a claim word",
        &[
            ("lap", &|bits| Claim::from_bits(bits).lap().into()),
            ("skips", &|bits| Claim::from_bits(bits).skips().into()),
            ("owner", &|bits| Claim::from_bits(bits).owner().index().into()),
        ],
    );
    check_bits(
        "Bits of a seq word",
        &[
            ("lap", &|bits| Seq::from_bits(bits).lap().into()),
            ("kind", &|bits| Seq::from_bits(bits).kind() as u64),
            ("length", &|bits| Seq::from_bits(bits).len().into()),
        ],
    );
    let kinds = [(Kind::Never as u64, "never"), (Kind::Ready as u64, "ready"), (Kind::Void as u64, "void")];
    check_values("Kinds of seq", &kinds);
    let ready = Seq::ready(1, 5);
    assert_eq!((ready.kind(), Seq::void(1).kind(), Seq::void(1).len()), (Kind::Ready, Kind::Void, 0));
    check_bits(
        "Bits of an extent word",
        &[("idle", &|bits| bits >> 32), ("pages", &|bits| bits & 0xffff_ffff)],
    );
    let bits = Claim::taken(3, Owner::new(5)).skipped(SKIPS_MAX).bits();
    assert_eq!(bits, 4 << 32 | 1 << 12 | 5);
}

#[test]
fn lease_and_due_words_are_as_documented() {
    // States by their documented numbers; the numbers that mean nothing stand for themselves.
    let states = [
        (State::Done, "done"),
        (State::Leased, "leased"),
        (State::Timed, "timed"),
        (State::Retry, "retry"),
        (State::Dead, "dead"),
        (State::Committing, "committing"),
    ];
    let state_of = |bits: u64| {
        let state = Lease::from_bits(bits).state();
        states.iter().position(|(known, _)| *known == state).map_or(bits >> 29 & 7, |number| number as u64)
    };
    check_bits(
        "Bits of a lease word",
        &[
            ("lap", &|bits| Lease::from_bits(bits).lap().into()),
            ("state", &state_of),
            ("failures", &|bits| Lease::from_bits(bits).failures().into()),
            ("owner", &|bits| Lease::from_bits(bits).owner().index().into()),
            ("turn", &|bits| Lease::from_bits(bits).turn().into()),
        ],
    );
    let numbered: Vec<_> = (0..).zip(states).map(|(number, (_, name))| (number, name)).collect();
    check_values("States of a lease", &numbered);
    for (number, (state, _)) in (0_u64..).zip(states) {
        assert_eq!(Lease::from_bits(number << 29).state(), state);
    }
    check_values(
        "Reasons for death",
        &[
            (REASON_MAX_DELIVERIES.into(), "max deliveries"),
            (REASON_REJECTED.into(), "rejected"),
            (REASON_CORRUPT.into(), "corrupt"),
        ],
    );
    // What a due word says depends on the lease: here it is one of the turn that the tag has.
    check_bits(
        "Bits of a due word",
        &[
            ("time", &|bits| Due::from_bits(bits).time_of(Lease::from_bits(bits & 0xff)).unwrap_or(u64::MAX)),
            ("back", &|bits| Due::from_bits(bits).is_back(Lease::from_bits(bits & 0xff)).into()),
            ("failed", &|bits| Due::from_bits(bits).is_failed().into()),
            ("reason", &|bits| Due::from_bits(bits).reason().into()),
            ("attempts", &|bits| Due::from_bits(bits).attempts_of(Lease::from_bits(bits & 0xff)).into()),
            ("tag", &tag_of),
        ],
    );
}

/// The turn for which a due word says something.
fn tag_of(due: u64) -> u64 {
    let says = |turn: &u64| Due::from_bits(due).time_of(Lease::from_bits(*turn)).is_some();
    (0..256).find(says).unwrap_or(u64::MAX)
}

#[test]
fn slots_and_fields_are_as_documented() {
    check_fields("Slot", None, &[("seq", 0, 8), ("headers", 8, 8), ("message", SLOT_HEADER as usize, 0)]);
    let head = FIELD_HEAD;
    check_fields(
        "Field of a header block",
        None,
        &[("tag", 0, 1), ("name length", 1, 1), ("value length", 2, head - 2), ("name", head, 0)],
    );
    let message = crate::Message::new("").with_type("ab").with_header("k", "vwx");
    let block = crate::Payload::encoded_headers(&message);
    assert_eq!(block, b"\x01\0\x02\0ab\x06\x01\x03\0kvwx\0\0");
    check_values(
        "Tags of fields",
        &[
            (tag::END.into(), "end"),
            (tag::TYPE.into(), "type"),
            (tag::CORRELATION_ID.into(), "correlation id"),
            (tag::CONTENT_TYPE.into(), "content type"),
            (tag::TRACEPARENT.into(), "traceparent"),
            (tag::TRACESTATE.into(), "tracestate"),
            (tag::USER.into(), "user"),
        ],
    );
}

#[test]
fn the_areas_of_a_queue_file_are_as_documented() {
    let (slots, groups) = (|g: &Geometry| g.capacity, |g: &Geometry| u64::from(g.max_groups));
    check_areas("Areas of the queue file", |geometry| {
        let plan = geometry.plan();
        let extents = slots(geometry) * plan.extent_size;
        vec![
            ("header", 0, at::END as u64),
            ("queue words", queue::WORDS_AT, size_of::<QueueWords>() as u64),
            ("group words", plan.groups, groups(geometry) * size_of::<GroupWords>() as u64),
            ("records", plan.attachments, (ATTACHMENTS * size_of::<Attachment>()) as u64),
            ("claim words", plan.claims, slots(geometry) * 8),
            ("extent words", plan.extent_words, slots(geometry) * 8),
            ("ledgers", plan.ledgers, groups(geometry) * plan.ledger_size),
            ("segment words", plan.segments, if geometry.durable { slots(geometry) * 8 } else { 0 }),
            ("slots", plan.slots, slots(geometry) * u64::from(geometry.slot_size)),
            ("extents", plan.extents, extents),
            ("end", plan.file_len, 0),
        ]
    });
    check_areas("Areas of a ledger", |geometry| {
        let plan = geometry.plan();
        vec![
            ("lease words", 0, slots(geometry) * 8),
            ("due words", plan.due, slots(geometry) * 8),
            ("returned", plan.returned, slots(geometry) / 8),
            ("notes", plan.notes, NOTES * size_of::<Note>() as u64),
            ("end", plan.ledger_size, 0),
        ]
    });
}
