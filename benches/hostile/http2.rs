//! Frames of HTTP/2 that no client of good will sends in such numbers (RFC 9113).

/// What a client sends first: the preface and an empty SETTINGS frame.
pub(crate) fn opening() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

const END_HEADERS: u8 = 4;

/// The reason CANCEL of RST_STREAM.
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// A frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a payload is short");
    let length = length.to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// A PING.
pub(crate) fn ping() -> Vec<u8> {
    frame(PING, 0, 0, &[0; 8])
}

/// An empty SETTINGS, which wants an acknowledgement.
pub(crate) fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, b"")
}

/// The headers of a write whose body is to come, and the reset of its stream.
pub(crate) fn reset(stream: u32, token: &str) -> Vec<u8> {
    let headers = frame(HEADERS, END_HEADERS, stream, &write_headers(token));
    [headers, frame(RST_STREAM, 0, stream, &CANCEL)].concat()
}

/// The beginning of the headers of a write, which never end.
pub(crate) fn endless_headers(token: &str) -> Vec<u8> {
    frame(HEADERS, 0, 1, &write_headers(token))
}

/// A CONTINUATION with one more header.
pub(crate) fn continuation(number: u32) -> Vec<u8> {
    let mut block = vec![0x00];
    let name = format!("x-{number:06}");
    let value = "x".repeat(100);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).expect("it is short"));
        block.extend_from_slice(text.as_bytes());
    }
    frame(CONTINUATION, 0, 1, &block)
}

/// RFC 7541: indexes of the static table, and values that are not indexed.
fn write_headers(token: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let authorization = format!("Bearer {token}");
    for (name, value) in [
        (&[0x01][..], "gate"),
        (&[0x04], "/api/v1/write"),
        (&[0x0f, 0x08], &authorization),
        (&[0x0f, 0x10], "application/x-protobuf"),
    ] {
        block.extend_from_slice(name);
        block.push(u8::try_from(value.len()).expect("a token is short"));
        block.extend_from_slice(value.as_bytes());
    }
    block
}
