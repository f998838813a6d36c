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

mod accounts;
mod admin;
mod bad_series;
mod disguises;
mod forwarding;
mod hub_answers;
mod hub_protocol;
mod hub_texts;
mod identity;
mod label_policy;
mod lifecycle;
mod memory;
mod proto;
mod readme;
mod real_hubs;
mod real_prometheus;
mod refusals;
mod reload;
mod reload_edges;
mod salvage;
mod several_hubs;
