//! What must hold of any body that is said to be a snappy block. The fuzz targets include this
//! file.

use crate::wire::snappy::{EXPANSION_MAX, checked_len, declared_len, decompress};

const LIMIT: usize = 1 << 16;

/// What a buffer holds of another message.
const LEFT: u8 = 0xa5;

/// Panics unless the declared size, the checked one and the decompressed one agree, and the bytes are
/// those of the crate `snap`.
pub(crate) fn check(body: &[u8]) {
    let checked = checked_len(body, LIMIT);
    if let Ok(len) = checked {
        assert!(len <= LIMIT && len <= EXPANSION_MAX * body.len());
        assert_eq!(declared_len(body), Ok(Some(len)));
    }
    let mut known = None;
    for end in 0..=body.len().min(16) {
        let declared = declared_len(&body[..end]);
        match &known {
            Some(known) => assert_eq!(&declared, known, "more bytes changed what was known"),
            None if declared != Ok(None) => known = Some(declared),
            None => {}
        }
    }
    // What is left of another message does not show, and what follows the message stays.
    let mut buffer = vec![LEFT; checked.unwrap_or(0) + 100];
    let message = decompress(body, LIMIT, &mut buffer);
    assert_eq!(message.ok(), by_snap(body, &mut Vec::new()));
    assert_eq!(buffer.len(), checked.unwrap_or(0) + 100);
    assert!(buffer.ends_with(&[LEFT; 100]));
    let mut buffer = Vec::new();
    let fresh = decompress(body, LIMIT, &mut buffer).map(<[u8]>::len);
    assert!(fresh.is_err() || fresh == checked);
    assert!(buffer.len() <= LIMIT);
}

/// What the crate `snap` decompresses.
fn by_snap<'b>(body: &[u8], buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
    buffer.resize(checked_len(body, LIMIT).ok()?, 0);
    let length = snap::raw::Decoder::new().decompress(body, buffer).ok()?;
    Some(&buffer[..length])
}
