//! What is published: a payload, and headers if there are any.

use serde::Serialize;

/// An owned message: headers and payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    headers: Headers,
    payload: Vec<u8>,
}

/// The headers of a message, in their encoded form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    encoded: Vec<u8>,
}

/// A view of encoded headers: of a message, or of a delivery.
#[derive(Debug, Clone, Copy)]
pub struct HeadersRef<'a> {
    encoded: &'a [u8],
}

/// What can be published: bytes, text, or a [`Message`], owned or borrowed.
pub trait Payload {
    /// The encoded headers; empty for none.
    fn encoded_headers(&self) -> &[u8];
    /// The payload.
    fn payload_bytes(&self) -> &[u8];
}

impl Message {
    /// A message of these bytes, without headers.
    pub fn new(payload: impl Into<Vec<u8>>) -> Message {
        Message { headers: Headers::default(), payload: payload.into() }
    }
    /// A message of this value as JSON, with content type `application/json`.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Message, serde_json::Error> {
        todo!()
    }
    /// Sets the type.
    pub fn with_type(mut self, v: &str) -> Message {
        todo!()
    }
    /// Sets the correlation id.
    pub fn with_correlation_id(mut self, v: &str) -> Message {
        todo!()
    }
    /// Sets the content type.
    pub fn with_content_type(mut self, v: &str) -> Message {
        todo!()
    }
    /// Sets the W3C trace parent.
    pub fn with_traceparent(mut self, v: &str) -> Message {
        todo!()
    }
    /// Sets the W3C trace state.
    pub fn with_tracestate(mut self, v: &str) -> Message {
        todo!()
    }
    /// Adds a user header; the same name may be added more than once.
    pub fn with_header(mut self, name: &str, value: &str) -> Message {
        todo!()
    }
    /// The headers.
    pub fn headers(&self) -> HeadersRef<'_> {
        todo!()
    }
    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
    /// The payload, by value.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }
}

impl<'a> HeadersRef<'a> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        todo!()
    }
    /// The type.
    pub fn message_type(&self) -> Option<&'a str> {
        todo!()
    }
    /// The correlation id.
    pub fn correlation_id(&self) -> Option<&'a str> {
        todo!()
    }
    /// The content type.
    pub fn content_type(&self) -> Option<&'a str> {
        todo!()
    }
    /// The W3C trace parent.
    pub fn traceparent(&self) -> Option<&'a str> {
        todo!()
    }
    /// The W3C trace state.
    pub fn tracestate(&self) -> Option<&'a str> {
        todo!()
    }
    /// The first user header of this name.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        todo!()
    }
    /// The user headers, in the order they were added.
    pub fn user(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        std::iter::empty()
    }
    /// An owned copy.
    pub fn to_owned(&self) -> Headers {
        todo!()
    }
}
