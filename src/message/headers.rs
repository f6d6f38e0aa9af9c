//! Headers: the encoded block, how it is written, and how it is read.
//!
//! A message's headers are one block of bytes in front of its payload, made of fields, one after the other:
//!
//! ```text
//! offset  size      what
//! 0       1         tag: 1 type, 2 correlation id, 3 content type, 4 trace parent, 5 trace state,
//!                   6 user header
//! 1       1         length of the name: 0 for tags 1 to 5, 1 to 255 for tag 6
//! 2       2         length of the value, little endian
//! 4       n         the name, UTF-8
//! 4 + n   v         the value, UTF-8
//! ```
//!
//! Tag 0 ends the block and fills it up to a multiple of 8 bytes, so that the payload behind it is aligned.
//! An empty block has no bytes. A block is at most [`MAX_BLOCK`] bytes long, with its filling. There is
//! at most one field of each of the tags 1 to 5 (readers take the first), and any number with tag 6.
//! Readers skip tags they do not know.
//!
//! **Reading distrusts.** The bytes come out of memory that another process may have scribbled over, so
//! everything is checked against the bounds of the block: the first field that does not fit into it, or
//! breaks the rule on names, ends the block, and a text that is not UTF-8 reads as absent. Nothing panics
//! and nothing is allocated. **Writing trusts the caller with its own memory** and never fails: what the
//! format cannot hold is remembered as a [`Problem`], which publishing reports.

use crate::PublishFailure;

/// The longest block: the greatest multiple of 8 whose length fits into 16 bits.
pub(crate) const MAX_BLOCK: usize = 65_528;

/// The block is a multiple of this.
pub(crate) const ALIGN: usize = 8;

/// Bytes of a field before its name.
pub(crate) const FIELD_HEAD: usize = 4;

/// The tags of the fields.
pub(crate) mod tag {
    pub(crate) const END: u8 = 0;
    pub(crate) const TYPE: u8 = 1;
    pub(crate) const CORRELATION_ID: u8 = 2;
    pub(crate) const CONTENT_TYPE: u8 = 3;
    pub(crate) const TRACEPARENT: u8 = 4;
    pub(crate) const TRACESTATE: u8 = 5;
    pub(crate) const USER: u8 = 6;
}

/// The headers of a message, owned.
///
/// Made with [`HeadersRef::to_owned`], to be put on another message with [`Message::with_headers`]; single
/// headers are set with the `with_` methods of [`Message`].
///
/// Serializes as [`HeadersRef`] does.
///
/// [`Message`]: crate::Message
/// [`Message::with_headers`]: crate::Message::with_headers
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// The block. May be longer than a block can be; publishing finds out.
    encoded: Vec<u8>,
    /// Bytes of `encoded` before its filling.
    used: usize,
    /// The first thing that could not be encoded at all.
    problem: Option<Problem>,
}

/// Why a field could not be encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    /// A value too long for its length field: so many bytes.
    Value(usize),
    /// A name of this length.
    Name(usize),
}

impl Headers {
    /// No headers.
    pub fn new() -> Headers {
        Headers::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.view().is_empty()
    }

    /// The headers, to be read.
    pub fn view(&self) -> HeadersRef<'_> {
        HeadersRef { encoded: &self.encoded }
    }

    /// The block; too long a one if [`Headers::failure`] says so.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// Why these headers cannot be published, if they cannot.
    pub(crate) fn failure(&self) -> Option<PublishFailure> {
        match self.problem {
            Some(Problem::Name(found)) => Some(PublishFailure::BadHeaderName { found }),
            Some(Problem::Value(value)) => Some(PublishFailure::HeadersTooLarge {
                found: self.encoded.len().saturating_add(value),
                limit: MAX_BLOCK,
            }),
            None if self.encoded.len() > MAX_BLOCK => {
                Some(PublishFailure::HeadersTooLarge { found: self.encoded.len(), limit: MAX_BLOCK })
            }
            None => None,
        }
    }

    /// Sets a field of tags 1 to 5, in place of an earlier one.
    pub(crate) fn set(&mut self, tag: u8, value: &str) {
        self.encoded.truncate(self.used);
        let mut fields = Fields { rest: &self.encoded };
        let mut start = 0;
        while let Some(field) = fields.next() {
            let end = self.used - fields.rest.len();
            if field.tag == tag {
                self.encoded.drain(start..end);
                break;
            }
            start = end;
        }
        self.append(tag, "", value);
    }

    /// Adds a user header.
    pub(crate) fn add(&mut self, name: &str, value: &str) {
        if name.is_empty() || name.len() > usize::from(u8::MAX) {
            self.problem.get_or_insert(Problem::Name(name.len()));
            return;
        }
        self.encoded.truncate(self.used);
        self.append(tag::USER, name, value);
    }

    /// Writes a field behind the last one, then the filling.
    fn append(&mut self, tag: u8, name: &str, value: &str) {
        match (u8::try_from(name.len()), u16::try_from(value.len())) {
            (Ok(name_len), Ok(value_len)) => {
                self.encoded.extend([tag, name_len]);
                self.encoded.extend(value_len.to_le_bytes());
                self.encoded.extend(name.as_bytes());
                self.encoded.extend(value.as_bytes());
            }
            _ => {
                self.problem.get_or_insert(Problem::Value(value.len()));
            }
        }
        self.used = self.encoded.len();
        self.encoded.resize(self.used.next_multiple_of(ALIGN), tag::END);
    }
}

/// The headers of a message or a delivery, to be read.
///
/// Reading allocates nothing and looks through the headers from the first on, so keep a value that is needed
/// often. What another process has damaged reads as absent.
///
/// Serializes as an object with the keys `type`, `correlation_id`, `content_type`, `traceparent`,
/// `tracestate` and `headers`, without those that are not set. `headers` maps the user headers' names to
/// their values; a name that was added more than once has the list of its values.
///
/// ```
/// # use ringway::Message;
/// let message = Message::new("…").with_type("order.placed").with_header("tenant", "blue");
/// let json = serde_json::to_string(&message.headers())?;
/// assert_eq!(json, r#"{"type":"order.placed","headers":{"tenant":"blue"}}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct HeadersRef<'a> {
    encoded: &'a [u8],
}

impl<'a> HeadersRef<'a> {
    /// The headers of an encoded block, which may hold anything. The bytes must not change while the
    /// view lives, so it is given a private copy, or the memory of peers that are trusted.
    pub(crate) fn from_encoded(encoded: &'a [u8]) -> HeadersRef<'a> {
        HeadersRef { encoded }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields().next().is_none()
    }

    /// The type, such as `order.placed`.
    pub fn message_type(&self) -> Option<&'a str> {
        self.standard(tag::TYPE)
    }

    /// The correlation id: what this message belongs to, or answers.
    pub fn correlation_id(&self) -> Option<&'a str> {
        self.standard(tag::CORRELATION_ID)
    }

    /// The payload's media type, such as `application/json`.
    pub fn content_type(&self) -> Option<&'a str> {
        self.standard(tag::CONTENT_TYPE)
    }

    /// The W3C `traceparent`.
    pub fn traceparent(&self) -> Option<&'a str> {
        self.standard(tag::TRACEPARENT)
    }

    /// The W3C `tracestate`.
    pub fn tracestate(&self) -> Option<&'a str> {
        self.standard(tag::TRACESTATE)
    }

    /// The first user header of this name. Names are case-sensitive.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.user().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The user headers, name and value, in the order they were added.
    pub fn user(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.fields()
            .filter(|field| field.tag == tag::USER)
            .filter_map(|field| Some((str::from_utf8(field.name).ok()?, str::from_utf8(field.value).ok()?)))
    }

    /// An owned copy.
    pub fn to_owned(&self) -> Headers {
        let mut fields = self.fields();
        while fields.next().is_some() {}
        // What is behind the last good field is not carried on.
        let used = self.encoded.len() - fields.rest.len();
        let mut encoded = self.encoded[..used].to_vec();
        encoded.resize(used.next_multiple_of(ALIGN), tag::END);
        Headers { encoded, used, problem: None }
    }

    fn fields(&self) -> Fields<'a> {
        Fields { rest: self.encoded }
    }

    fn standard(&self, tag: u8) -> Option<&'a str> {
        let field = self.fields().find(|field| field.tag == tag)?;
        str::from_utf8(field.value).ok()
    }

    /// The headers of tags 1 to 5, with the keys they are shown under.
    pub(super) fn standards(&self) -> impl Iterator<Item = (&'static str, &'a str)> + use<'a> {
        let all = [
            ("type", self.message_type()),
            ("correlation_id", self.correlation_id()),
            ("content_type", self.content_type()),
            ("traceparent", self.traceparent()),
            ("tracestate", self.tracestate()),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }
}

/// A field that lies within its block.
#[derive(Debug, Clone, Copy)]
struct Field<'a> {
    tag: u8,
    name: &'a [u8],
    value: &'a [u8],
}

/// The fields of a block up to its end, or to the first malformed one.
#[derive(Debug, Clone)]
struct Fields<'a> {
    /// What was not read yet. It does not shrink any more at the end.
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let ([tag, name_len, low, high], rest) = self.rest.split_first_chunk::<FIELD_HEAD>()?;
        let named = match *tag {
            tag::END => return None,
            tag::TYPE..=tag::TRACESTATE => *name_len == 0,
            tag::USER => *name_len > 0,
            _ => true,
        };
        let (name, rest) = rest.split_at_checked(usize::from(*name_len))?;
        let (value, rest) = rest.split_at_checked(u16::from_le_bytes([*low, *high]).into())?;
        if !named {
            return None;
        }
        self.rest = rest;
        Some(Field { tag: *tag, name, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Pairs = Vec<(String, String)>;

    fn pairs_of(headers: HeadersRef<'_>) -> Pairs {
        headers.user().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Everything that can be read.
    fn read_all(headers: HeadersRef<'_>) -> (Vec<(&'static str, String)>, Pairs) {
        (headers.standards().map(|(key, value)| (key, value.to_owned())).collect(), pairs_of(headers))
    }

    #[test]
    fn the_bytes_are_as_the_format_says() {
        let mut headers = Headers::new();
        assert!(headers.encoded().is_empty());
        headers.set(tag::TYPE, "ab");
        assert_eq!(headers.encoded(), [1, 0, 2, 0, b'a', b'b', 0, 0]);
        headers.add("n", "vw");
        assert_eq!(headers.encoded(), [1, 0, 2, 0, b'a', b'b', 6, 1, 2, 0, b'n', b'v', b'w', 0, 0, 0]);
    }

    #[test]
    fn a_standard_header_replaces_an_earlier_one() {
        let mut headers = Headers::new();
        headers.set(tag::TYPE, "one");
        headers.set(tag::CORRELATION_ID, "id");
        headers.add("name", "first");
        headers.set(tag::TYPE, "another");
        headers.add("name", "second");
        let view = headers.view();
        assert_eq!(view.message_type(), Some("another"));
        assert_eq!(view.correlation_id(), Some("id"));
        assert_eq!(view.get("name"), Some("first"));
        assert_eq!(view.get("none"), None);
        assert_eq!(view.user().count(), 2);
        let mut plain = Headers::new();
        plain.set(tag::TYPE, "x");
        plain.set(tag::TYPE, "");
        assert_eq!(plain.encoded().len(), 8);
        assert_eq!(plain.view().message_type(), Some(""));
    }

    #[test]
    fn unknown_tags_are_skipped_and_carried_on() {
        let block = [9, 1, 1, 0, b'?', b'!', 1, 0, 1, 0, b't', 0, 0, 0, 0, 0];
        let view = HeadersRef::from_encoded(&block);
        assert_eq!(view.message_type(), Some("t"));
        let mut copy = view.to_owned();
        assert_eq!(copy.encoded(), block);
        copy.set(tag::TYPE, "u");
        assert_eq!(copy.encoded()[..6], block[..6]);
        assert_eq!(copy.view().message_type(), Some("u"));
    }

    #[test]
    fn a_malformed_field_ends_the_block() {
        let good = [1, 0, 1, 0, b't'];
        for bad in
            [&[6, 0, 0, 0][..], &[2, 1, 0, 0, b'n'], &[2, 0, 200, 0, b'v'], &[6, 200, 0, 0, b'n'], &[2, 0, 1]]
        {
            let block = [&good, bad, &[3, 0, 1, 0, b'c', 0, 0, 0, 0]].concat();
            let view = HeadersRef::from_encoded(&block);
            assert_eq!(view.message_type(), Some("t"));
            assert!(view.correlation_id().is_none() && view.user().next().is_none(), "{bad:?}");
            assert_eq!(view.to_owned().encoded(), [&good[..], &[0, 0, 0]].concat());
        }
    }

    #[test]
    fn what_is_not_text_reads_as_absent() {
        let block =
            [1, 0, 1, 0, 0xff, 6, 1, 1, 0, 0xff, b'v', 6, 1, 1, 0, b'n', 0xff, 2, 0, 1, 0, b'c', 0, 0];
        let view = HeadersRef::from_encoded(&block);
        assert_eq!(read_all(view), (vec![("correlation_id", "c".to_owned())], vec![]));
    }

    #[test]
    fn the_longest_block_passes_and_one_byte_more_does_not() {
        let mut headers = Headers::new();
        headers.set(tag::TYPE, &"t".repeat(MAX_BLOCK - FIELD_HEAD));
        assert_eq!(headers.encoded().len(), MAX_BLOCK);
        assert!(headers.failure().is_none());
        headers.set(tag::TYPE, &"t".repeat(MAX_BLOCK - FIELD_HEAD + 1));
        match headers.failure() {
            Some(PublishFailure::HeadersTooLarge { found, limit: MAX_BLOCK }) => assert_eq!(found, 65_536),
            other => panic!("{other:?}"),
        }
        headers.set(tag::TYPE, "short");
        assert!(headers.failure().is_none(), "a replaced value does not count");
    }

    #[test]
    fn what_cannot_be_encoded_is_reported() {
        let mut headers = Headers::new();
        headers.set(tag::TYPE, &"t".repeat(1 << 20));
        match headers.failure() {
            Some(PublishFailure::HeadersTooLarge { found, .. }) => assert!(found >= 1 << 20),
            other => panic!("{other:?}"),
        }
        for (name, len) in [(String::new(), 0), ("n".repeat(256), 256)] {
            let mut headers = Headers::new();
            headers.add(&name, "v");
            assert!(
                matches!(headers.failure(), Some(PublishFailure::BadHeaderName { found }) if found == len)
            );
        }
        let mut headers = Headers::new();
        headers.add(&"n".repeat(255), "v");
        assert!(headers.failure().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn what_is_written_is_read(
            standard in proptest::collection::vec((tag::TYPE..=tag::TRACESTATE, ".{0,20}"), 0..8),
            user in proptest::collection::vec((".{1,20}", ".{0,20}"), 0..8),
        ) {
            let mut headers = Headers::new();
            let mut expected = std::collections::BTreeMap::new();
            for (tag, value) in &standard {
                headers.set(*tag, value);
                expected.insert(*tag, value.as_str());
            }
            for (name, value) in &user {
                headers.add(name, value);
            }
            prop_assert!(headers.failure().is_none());
            prop_assert_eq!(headers.encoded().len() % ALIGN, 0);
            let view = HeadersRef::from_encoded(headers.encoded());
            for tag in tag::TYPE..=tag::TRACESTATE {
                prop_assert_eq!(view.standard(tag), expected.get(&tag).copied());
            }
            prop_assert_eq!(pairs_of(view), user);
            prop_assert_eq!(view.is_empty(), standard.is_empty() && headers.view().user().next().is_none());
            prop_assert_eq!(view.to_owned(), headers);
        }

        #[test]
        fn any_bytes_can_be_read(
            bytes in proptest::collection::vec(prop_oneof![0u8..8, any::<u8>()], 0..120),
        ) {
            let view = HeadersRef::from_encoded(&bytes);
            let copy = view.to_owned();
            prop_assert_eq!(read_all(view), read_all(copy.view()));
            prop_assert_eq!(copy.encoded().len() % ALIGN, 0);
            prop_assert!(serde_json::to_value(view).is_ok());
        }

        #[test]
        fn a_flipped_block_can_be_read(at in 0usize..64, to in any::<u8>()) {
            let mut headers = Headers::new();
            headers.set(tag::TYPE, "order.placed");
            headers.add("tenant", "blue");
            headers.add("region", "north");
            let mut bytes = headers.encoded().to_vec();
            let at = at % bytes.len();
            bytes[at] = to;
            let view = HeadersRef::from_encoded(&bytes);
            prop_assert_eq!(read_all(view), read_all(view.to_owned().view()));
        }
    }
}
