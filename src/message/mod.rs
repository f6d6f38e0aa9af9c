//! What is published: a payload, and headers if there are any.
//!
//! A [`Message`] is both, owned. Where no headers are needed, bytes and texts can be published as they
//! are: [`Payload`] says what all of these have in common. The headers' format is in [`headers`].

pub(crate) mod headers;
mod show;

use serde::Serialize;

use crate::PublishFailure;
use crate::message::headers::tag;
pub use crate::message::headers::{Headers, HeadersRef};

/// An owned message: headers and payload.
///
/// ```
/// # use ringway::Message;
/// let message = Message::new("two pizzas")
///     .with_type("order.placed")
///     .with_correlation_id("order-17")
///     .with_header("tenant", "blue");
/// assert_eq!(message.payload(), b"two pizzas");
/// assert_eq!(message.headers().message_type(), Some("order.placed"));
/// assert_eq!(message.headers().get("tenant"), Some("blue"));
/// ```
///
/// Names and values of headers may be any text: a name has 1 to 255 bytes, and all headers together have at
/// most 65,528 when encoded (4 bytes each, plus names and values). What is longer is not found out here but
/// when the message is published, with [`PublishFailure::BadHeaderName`] or
/// [`PublishFailure::HeadersTooLarge`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    headers: Headers,
    payload: Vec<u8>,
}

impl Message {
    /// A message of these bytes, without headers.
    pub fn new(payload: impl Into<Vec<u8>>) -> Message {
        Message { headers: Headers::new(), payload: payload.into() }
    }

    /// A message of this value as JSON, with content type `application/json`.
    ///
    /// ```
    /// # use ringway::Message;
    /// let message = Message::json(&["pizza", "salad"])?;
    /// assert_eq!(message.payload(), br#"["pizza","salad"]"#);
    /// assert_eq!(message.headers().content_type(), Some("application/json"));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the value cannot be JSON: its `Serialize` fails, or a map has keys that are not text.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Message, serde_json::Error> {
        Ok(Message::new(serde_json::to_vec(value)?).with_content_type("application/json"))
    }

    /// Sets the type, such as `order.placed`, in place of an earlier one.
    #[must_use]
    pub fn with_type(self, message_type: &str) -> Message {
        self.with(tag::TYPE, message_type)
    }

    /// Sets the correlation id, in place of an earlier one.
    #[must_use]
    pub fn with_correlation_id(self, id: &str) -> Message {
        self.with(tag::CORRELATION_ID, id)
    }

    /// Sets the payload's media type, such as `application/json`, in place of an earlier one.
    #[must_use]
    pub fn with_content_type(self, media_type: &str) -> Message {
        self.with(tag::CONTENT_TYPE, media_type)
    }

    /// Sets the W3C `traceparent`, in place of an earlier one.
    #[must_use]
    pub fn with_traceparent(self, traceparent: &str) -> Message {
        self.with(tag::TRACEPARENT, traceparent)
    }

    /// Sets the W3C `tracestate`, in place of an earlier one.
    #[must_use]
    pub fn with_tracestate(self, tracestate: &str) -> Message {
        self.with(tag::TRACESTATE, tracestate)
    }

    /// Adds a user header. The same name may be added more than once; the order is kept.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Message {
        self.headers.add(name, value);
        self
    }

    /// Puts these headers in place of all that were set.
    ///
    /// ```
    /// # use ringway::Message;
    /// # let order = Message::new("two pizzas").with_correlation_id("order-17");
    /// let invoice = Message::new("12.50").with_headers(order.headers().to_owned()).with_type("invoice");
    /// assert_eq!(invoice.headers().correlation_id(), Some("order-17"));
    /// ```
    #[must_use]
    pub fn with_headers(mut self, headers: Headers) -> Message {
        self.headers = headers;
        self
    }

    /// The headers.
    pub fn headers(&self) -> HeadersRef<'_> {
        self.headers.view()
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload, by value.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }

    fn with(mut self, tag: u8, value: &str) -> Message {
        self.headers.set(tag, value);
        self
    }
}

impl From<Vec<u8>> for Message {
    fn from(payload: Vec<u8>) -> Message {
        Message::new(payload)
    }
}

impl From<&[u8]> for Message {
    fn from(payload: &[u8]) -> Message {
        Message::new(payload)
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(payload: &[u8; N]) -> Message {
        Message::new(payload)
    }
}

impl From<String> for Message {
    fn from(payload: String) -> Message {
        Message::new(payload)
    }
}

impl From<&str> for Message {
    fn from(payload: &str) -> Message {
        Message::new(payload)
    }
}

/// What can be published: bytes, text, or a [`Message`], owned or borrowed.
///
/// Implement it for a type of your own to publish that without a copy. The answers must stay the same
/// while the value is being published.
pub trait Payload {
    /// The encoded headers; empty for none. Only [`Message`] has any: the encoding is the library's own.
    fn encoded_headers(&self) -> &[u8];

    /// The payload.
    fn payload_bytes(&self) -> &[u8];

    /// Why the headers cannot be published, if they cannot.
    fn header_problem(&self) -> Option<PublishFailure> {
        None
    }
}

impl Payload for Message {
    fn encoded_headers(&self) -> &[u8] {
        self.headers.encoded()
    }

    fn payload_bytes(&self) -> &[u8] {
        &self.payload
    }

    fn header_problem(&self) -> Option<PublishFailure> {
        self.headers.failure()
    }
}

impl Payload for &Message {
    fn encoded_headers(&self) -> &[u8] {
        (**self).encoded_headers()
    }

    fn payload_bytes(&self) -> &[u8] {
        (**self).payload_bytes()
    }

    fn header_problem(&self) -> Option<PublishFailure> {
        (**self).header_problem()
    }
}

/// Implements [`Payload`] for types that are bytes and nothing else.
macro_rules! payload_without_headers {
    ($($type:ty),+) => {$(
        impl Payload for $type {
            fn encoded_headers(&self) -> &[u8] {
                &[]
            }

            fn payload_bytes(&self) -> &[u8] {
                self.as_ref()
            }
        }
    )+};
}

payload_without_headers!(&[u8], Vec<u8>, &Vec<u8>, &str, String, &String);

impl<const N: usize> Payload for &[u8; N] {
    fn encoded_headers(&self) -> &[u8] {
        &[]
    }

    fn payload_bytes(&self) -> &[u8] {
        self.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(payload: impl Payload) -> Vec<u8> {
        assert!(payload.encoded_headers().is_empty());
        assert!(payload.header_problem().is_none());
        payload.payload_bytes().to_vec()
    }

    #[test]
    fn everything_that_is_bytes_can_be_published() {
        let text = String::from("abc");
        let bytes = b"abc".to_vec();
        let message = Message::from("abc");
        let all = [
            bytes_of("abc"),
            bytes_of(&text),
            bytes_of(text.clone()),
            bytes_of(b"abc"),
            bytes_of(&bytes[..]),
            bytes_of(&bytes),
            bytes_of(bytes.clone()),
            bytes_of(&message),
            bytes_of(message.clone()),
        ];
        assert!(all.iter().all(|found| *found == bytes));
    }

    #[test]
    fn everything_that_is_bytes_is_a_message() {
        let message = Message::new("abc");
        assert_eq!(Message::from("abc"), message);
        assert_eq!(Message::from(b"abc"), message);
        assert_eq!(Message::from(&b"abc"[..]), message);
        assert_eq!(Message::from(b"abc".to_vec()), message);
        assert_eq!(Message::from(String::from("abc")), message);
        assert_eq!(message.into_payload(), b"abc");
    }

    #[test]
    fn headers_travel_with_a_borrowed_message() {
        let message = Message::new("x").with_traceparent("00-1").with_tracestate("a=b");
        assert_eq!(message.headers().traceparent(), Some("00-1"));
        assert_eq!(message.headers().tracestate(), Some("a=b"));
        let headers_of = |payload: &Message| <&Message as Payload>::encoded_headers(&payload).to_vec();
        assert_eq!(headers_of(&message), message.encoded_headers());
        assert!(!message.encoded_headers().is_empty());
        let bad = Message::new("x").with_header("", "value");
        assert!(<&Message as Payload>::header_problem(&&bad).is_some());
    }

    #[test]
    fn json_fails_for_what_json_cannot_say() {
        let keys_that_are_not_text = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(Message::json(&keys_that_are_not_text).is_err());
    }
}
