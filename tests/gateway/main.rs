//! Black-box tests: the real `hubgate` binary, real sockets, scripted and real hubs.
//!
//! Each file holds the facts of one subject; `support` holds the machinery. Every address has
//! port 0, every wait is for an event or polls under a deadline, so all tests run side by side.
#![allow(
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test may panic, print, and read what the test itself made without a limit"
)]

mod support;

mod admin;
mod authentication;
mod connections;
mod foreign_label_encodings;
mod forwarding;
mod generated_types;
mod hub_protocol;
mod hub_response_contents;
mod hub_responses;
mod label_policy;
mod lifecycle;
mod memory;
mod readme;
mod real_hubs;
mod real_prometheus;
mod refused_requests;
mod refused_series;
mod reload;
mod salvage;
mod sample_counts;
mod several_hubs;
mod source_ranges;
mod translation;
