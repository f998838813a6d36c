//! Black-box tests: the real `hubgate` binary, real sockets, scripted and real hubs.
//!
//! Each file tests one subject; `support` holds the machinery. Tests run side by side: every
//! listener is on a free port, and every wait is for an event or polls under a deadline.
#![allow(
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test may panic, print, and read without a limit what it made itself"
)]

mod support;

mod active_series;
mod admin;
mod admin_credentials;
mod admin_origins;
mod api;
mod authentication;
mod captures;
mod client_certificates;
mod clocks;
mod command_line;
mod connection_age;
mod connections;
mod connections_per_address;
mod docs;
mod faults;
mod foreign_label_encodings;
mod forwarded_for;
mod forwarding;
mod generated_types;
mod guesses;
mod held_bodies;
mod hostile_connections;
mod hostile_senders;
mod hub_connections;
mod hub_credentials;
mod hub_protocol;
mod hub_response_contents;
mod hub_responses;
mod hub_tls;
mod inspect;
mod jwt;
mod jwt_keys;
mod jwt_renewal;
mod label_policy;
mod lifecycle;
mod log;
mod memory;
mod metrics_formats;
mod metrics_rises;
mod neighbours;
mod page;
mod password_attacks;
mod proxy_protocol;
mod real_hubs;
mod real_prometheus;
mod real_tls;
mod refused_requests;
mod refused_samples;
mod refused_series;
mod reload;
mod reload_storms;
mod request_heads;
mod rolling_restart;
mod salvage;
mod sample_counts;
mod several_hubs;
mod sick_hubs;
mod source_ranges;
mod spoke_limits;
mod tls;
mod translation;
mod unread_bodies;
