//! What a request asks for and which message its body holds, from its head alone.
//!
//! Content-Type and Content-Encoding are judged before the body is read: a wrong Content-Type with a
//! broken body is a 415, not a 400 (remote write 2.0, "Required Content-Type").

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use http::request::Parts as Head;
use http::{HeaderMap, Method};

use crate::remote_write::{self, MEDIA_TYPE, PATHS};
use crate::wire::Protocol;

use super::refusal::Refusal;

/// Longest part of a header value that a refusal repeats, in bytes.
const REPEATED_BYTES_MAX: usize = 80;

/// Fails unless the request is a remote write by method and path.
pub(super) fn route(head: &Head) -> Result<(), Refusal> {
    if !PATHS.contains(&head.uri.path()) {
        return Err(Refusal::NotFound);
    }
    if head.method == Method::POST {
        Ok(())
    } else {
        Err(Refusal::MethodNotAllowed)
    }
}

/// Reads Content-Type and Content-Encoding. Without the first the message is V1 and without the
/// second the encoding is snappy, as in Prometheus (`storage/remote/write_handler.go`).
pub(super) fn negotiate(headers: &HeaderMap) -> Result<Protocol, Refusal> {
    let protocol = match single(headers, CONTENT_TYPE).map_err(Refusal::ContentType)? {
        None => Protocol::V1,
        Some(value) => content_type(value).ok_or_else(|| Refusal::ContentType(is(value)))?,
    };
    match single(headers, CONTENT_ENCODING).map_err(Refusal::ContentEncoding)? {
        None => Ok(protocol),
        Some(value) if value.trim().eq_ignore_ascii_case("snappy") => Ok(protocol),
        Some(value) => Err(Refusal::ContentEncoding(is(value))),
    }
}

/// The value of a header that may be given once. The error says what is wrong with it.
fn single(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, String> {
    let mut values = headers.get_all(&name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err("is given twice".to_owned());
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| "is not text".to_owned())
}

/// The message that a Content-Type names, as RFC 9110 section 8.3.1 reads it: case, spaces,
/// quotes and other parameters do not matter.
fn content_type(value: &str) -> Option<Protocol> {
    // What nearly all senders write is not taken apart.
    let canonical = [Protocol::V1, Protocol::V2].into_iter();
    let mut canonical = canonical.filter(|it| remote_write::content_type(*it) == value);
    if let Some(protocol) = canonical.next() {
        return Some(protocol);
    }
    let mut parts = Parts { rest: value };
    if !parts.next()?.trim().eq_ignore_ascii_case(MEDIA_TYPE) {
        return None;
    }
    let mut proto = None;
    while let Some(parameter) = parts.next() {
        if parameter.trim().is_empty() {
            continue;
        }
        let (name, value) = parameter.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("proto")
            && proto.replace(unquote(value.trim())?).is_some()
        {
            return None;
        }
    }
    match proto.as_deref() {
        None => Some(Protocol::V1),
        Some(name) if name == Protocol::V1.message() => Some(Protocol::V1),
        Some(name) if name == Protocol::V2.message() => Some(Protocol::V2),
        Some(_) => None,
    }
}

/// Splits at `;` outside of quotes.
struct Parts<'v> {
    rest: &'v str,
}

impl<'v> Parts<'v> {
    fn next(&mut self) -> Option<&'v str> {
        if self.rest.is_empty() {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = self.rest.find(|character| {
            let was_escaped = std::mem::take(&mut escaped);
            match character {
                '\\' if quoted && !was_escaped => escaped = true,
                '"' if !was_escaped => quoted = !quoted,
                ';' => return !quoted,
                _ => {}
            }
            false
        });
        let (part, rest) = match end {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            None => (self.rest, ""),
        };
        self.rest = rest;
        Some(part)
    }
}

fn unquote(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else {
        return Some(value.to_owned());
    };
    let mut characters = inner.strip_suffix('"')?.chars();
    let mut out = String::new();
    while let Some(character) = characters.next() {
        out.push(if character == '\\' {
            characters.next()?
        } else {
            character
        });
    }
    Some(out)
}

fn is(value: &str) -> String {
    let start = &value[..value.floor_char_boundary(REPEATED_BYTES_MAX)];
    format!("is {start:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_content_types_as_rfc_9110_does() {
        const V2: &str = "io.prometheus.write.v2.Request";
        let cases = [
            ("application/x-protobuf".to_owned(), Some(Protocol::V1)),
            ("Application/X-Protobuf".to_owned(), Some(Protocol::V1)),
            ("application/x-protobuf;".to_owned(), Some(Protocol::V1)),
            (
                "application/x-protobuf; charset=utf-8".to_owned(),
                Some(Protocol::V1),
            ),
            (
                "application/x-protobuf;proto=prometheus.WriteRequest".to_owned(),
                Some(Protocol::V1),
            ),
            (
                format!("application/x-protobuf;proto={V2}"),
                Some(Protocol::V2),
            ),
            (
                format!("application/x-protobuf ; PROTO = \"{V2}\" ; x=\"a;b\""),
                Some(Protocol::V2),
            ),
            (
                format!("application/x-protobuf; x=\"a;proto=other\"; proto={V2}"),
                Some(Protocol::V2),
            ),
            (
                format!("application/x-protobuf;proto={V2};proto={V2}"),
                None,
            ),
            (format!("application/x-protobuf;proto=\"{V2}"), None),
            ("application/x-protobuf;proto=other".to_owned(), None),
            ("application/x-protobuf;proto".to_owned(), None),
            ("application/json".to_owned(), None),
            ("".to_owned(), None),
        ];
        for (value, expected) in cases {
            assert_eq!(content_type(&value), expected, "{value}");
        }
    }

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, http::HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn takes_snappy_alone() {
        assert!(negotiate(&headers(&[])).is_ok());
        assert!(negotiate(&headers(&[(CONTENT_ENCODING, "SNAPPY")])).is_ok());
        for encoding in ["identity", "gzip", "zstd", "snappy, gzip", ""] {
            let result = negotiate(&headers(&[(CONTENT_ENCODING, encoding)]));
            assert!(
                matches!(result, Err(Refusal::ContentEncoding(_))),
                "{encoding}"
            );
        }
        let twice = [(CONTENT_ENCODING, "snappy"), (CONTENT_ENCODING, "snappy")];
        assert!(matches!(
            negotiate(&headers(&twice)),
            Err(Refusal::ContentEncoding(_))
        ));
        let twice = [
            (CONTENT_TYPE, "application/x-protobuf"),
            (
                CONTENT_TYPE,
                "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            ),
        ];
        assert!(matches!(
            negotiate(&headers(&twice)),
            Err(Refusal::ContentType(_))
        ));
    }
}
