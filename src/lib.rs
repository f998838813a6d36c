//! hubgate: a Prometheus remote-write receiving gateway for hub-and-spoke clusters.
//!
//! Spoke clusters' Prometheus servers remote-write to hubgate; it knows which spoke sends, lets
//! only that spoke's `cluster` label through, forwards to the hub Prometheus, and answers with
//! what the hub really did.
//!
//! # Map
//!
//! The modules in the order in which a request meets them:
//!
//! | module | owns |
//! |---|---|
//! | [`listener`] | connections: cap, source ranges, HTTP, drain |
//! | [`write`](mod@write) | a request from its headers to its answer: who, from where, how much, what, to which hubs |
//! | [`wire`] | the remote-write messages of both versions, walked in place and written |
//! | [`policy`] | which series may travel on, and with which labels |
//! | [`forward`] | the way to a hub, and what the hub speaks |
//!
//! Beside them: [`config`] (one YAML file, checked whole), [`spoke`] (a spoke at run time),
//! [`metrics`] and [`telemetry`] (what is seen from outside), [`admin`] (the operators'
//! listener), [`gateway`] (puts the parts together), [`cli`] (the commands), [`demo`] and [`load`]
//! (a hub-and-spoke set-up to look at, and remote writes to measure with).
//!
//! # Words
//!
//! **spoke**: a configured source cluster; its name is the value of its cluster label. **hub**: an
//! upstream that takes remote write. **verdict**: what the inspection of a request decided.
//! **refusal**: an answer that is not 2xx, with its reason. **V1**: `prometheus.WriteRequest`.
//! **V2**: `io.prometheus.write.v2.Request`. **upgrade**, **downgrade**: a message of V1 written as
//! V2, and the other way. **salvage**: to send again in halves what a hub refused whole.
//!
//! # Invariants
//!
//! 1. No 2xx before the hub's 2xx. Nothing is queued: the spoke's write-ahead log is the queue,
//!    so killing hubgate at any moment loses nothing.
//! 2. A 4xx only for facts about the request itself, because Prometheus drops a batch on every
//!    4xx. [`write::refusal`], [`forward::outcome`] and [`write::answer`] are the only places that
//!    choose a status.
//! 3. What is checked is what travels on. The hub gets canonical headers and either the bytes
//!    that were walked, when they hold nothing else and nothing changed, or a message written
//!    from the walk. Bytes of two requests never meet.
//! 4. received = written + rejected + failed, for each spoke and kind.
//! 5. `wire` and `policy` know no tokio, no HTTP and no metrics: bytes in, values out.
//! 6. Who sends is known before a byte of the body is read, and what a request may hold is taken
//!    from the budget before it is held.
//! 7. Only [`metrics`] names metrics, only [`config`] reads its files, only [`gateway`] starts
//!    long-lived tasks.
//! 8. A configuration is loaded whole or not at all, credentials included, so there is no moment
//!    in which a good credential is unknown: without a configuration there is no listener, and a
//!    broken one leaves the old in force.

pub mod admin;
pub mod budget;
pub mod cli;
pub mod config;
pub mod demo;
pub mod forward;
pub mod gateway;
pub mod identify;
pub mod listener;
pub mod load;
pub mod metrics;
pub mod policy;
pub mod reasons;
pub mod remote_write;
pub mod rewrite;
pub mod spoke;
pub mod state;
pub mod telemetry;
pub mod wire;
pub mod write;

/// The User-Agent of requests to hubs.
pub const USER_AGENT: &str = concat!("hubgate/", env!("CARGO_PKG_VERSION"));
