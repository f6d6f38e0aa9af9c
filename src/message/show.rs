//! How headers are shown: as JSON, and to programmers.

use std::collections::HashMap;
use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::message::headers::{Headers, HeadersRef};

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view().serialize(serializer)
    }
}

impl fmt::Debug for HeadersRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.standards()).entries(self.user()).finish()
    }
}

impl Serialize for HeadersRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        for (key, value) in self.standards() {
            object.serialize_entry(key, value)?;
        }
        let user = UserHeaders::of(self);
        if !user.names.is_empty() {
            object.serialize_entry("headers", &user)?;
        }
        object.end()
    }
}

/// The user headers, each name once.
struct UserHeaders<'a> {
    names: Vec<&'a str>,
    values: HashMap<&'a str, Vec<&'a str>>,
}

impl<'a> UserHeaders<'a> {
    fn of(headers: &HeadersRef<'a>) -> UserHeaders<'a> {
        let mut user = UserHeaders { names: Vec::new(), values: HashMap::new() };
        for (name, value) in headers.user() {
            let values = user.values.entry(name).or_default();
            if values.is_empty() {
                user.names.push(name);
            }
            values.push(value);
        }
        user
    }
}

impl Serialize for UserHeaders<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.names.len()))?;
        for name in &self.names {
            match self.values[name].as_slice() {
                [value] => object.serialize_entry(name, value)?,
                values => object.serialize_entry(name, values)?,
            }
        }
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::headers::tag;

    #[test]
    fn as_json() {
        let mut headers = Headers::new();
        assert_eq!(serde_json::to_string(&headers).expect("json"), "{}");
        for (tag, value) in (tag::TYPE..=tag::TRACESTATE).zip(["t", "id", "text/plain", "00-1", "a=b"]) {
            headers.set(tag, value);
        }
        for (name, value) in [("b", "1"), ("a", "2"), ("b", "\"")] {
            headers.add(name, value);
        }
        let expected = concat!(
            r#"{"type":"t","correlation_id":"id","content_type":"text/plain","traceparent":"00-1","#,
            r#""tracestate":"a=b","headers":{"b":["1","\""],"a":"2"}}"#
        );
        assert_eq!(serde_json::to_string(&headers).expect("json"), expected);
        assert!(format!("{headers:?}").contains(r#""type": "t""#));
    }
}
