//! The remote-write messages as prost types, generated from `proto/` and committed.
//!
//! They are the oracle of the tests and serve the cold paths (`demo`, `load`); the request path
//! reads and writes the wire format itself. `tests/gateway/proto.rs` regenerates and compares.

/// Remote write 1.0: [`WriteRequest`](v1::WriteRequest).
#[allow(missing_docs, reason = "generated")]
pub mod v1 {
    include!("proto/prometheus.rs");
}

/// Remote write 2.0: [`Request`](v2::Request).
#[allow(missing_docs, reason = "generated")]
pub mod v2 {
    include!("proto/io.prometheus.write.v2.rs");
}
