//! What must hold of any body that is said to be a snappy block. The fuzz targets include this
//! file.

use crate::wire::snappy::{EXPANSION_MAX, checked_len, declared_len, decompress};

const LIMIT: usize = 1 << 16;

/// Panics unless the declared size, the checked one and the decompressed one agree.
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
    let mut buffer = Vec::new();
    if let Ok(message) = decompress(body, LIMIT, &mut buffer) {
        assert_eq!(Ok(message.len()), checked);
    }
    assert!(buffer.len() <= LIMIT);
}
