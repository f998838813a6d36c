//! hubgate: a Prometheus remote-write receiving gateway for hub-and-spoke clusters.
//!
//! Spoke clusters' Prometheus servers remote-write to hubgate. It knows which spoke sends, lets only
//! that spoke's `cluster` label through, forwards to the hub Prometheus, and answers with what the
//! hub really did.
//!
//! # Map
//!
//! The rooms in the order in which a request meets them:
//!
//! | room | owns |
//! |---|---|
//! | [`listener`] | connections: how many, from where, until when; HTTP; drain |
//! | [`write`](mod@write) | the stages of a request, what the spoke is told, what is recorded |
//! | [`identify`] | which spoke sends: one file for each scheme of credentials |
//! | [`admission`] | the requests and samples that a spoke may send in a time |
//! | [`budget`] | the bytes that all requests together may hold |
//! | [`shares`] | places that spokes compete for: whose request is sent to a hub next |
//! | [`series`] | which series of a spoke are active, where that is limited |
//! | [`rewrite`] | from a body to a verdict and to payloads for the hubs; large ones off the async workers |
//! | [`policy`] | which series and samples may travel on, and with which labels |
//! | [`wire`] | the messages of both versions, walked in place and encoded |
//! | [`forward`] | the way to the hubs, what follows from their responses, what they speak |
//! | [`suspects`] | which samples a hub will never store, where it answers with 500 |
//!
//! What they stand on: [`state`] (the configuration in force, made ready), [`spoke`] (what is kept of
//! a spoke at run time), [`config`] (one YAML file, checked whole), [`tls`] (certificates and keys, and
//! what rustls makes of them), [`jwt`] (JSON Web Tokens, and the keys that verify them), [`jwks`] (these
//! keys, fetched and kept), [`metrics`] and [`telemetry`] (what operators see), [`printable`] (what a terminal may show), [`reasons`] (every
//! closed "why"), [`remote_write`] (what both sides of HTTP share).
//!
//! Around them: [`capture`] (refused requests, for an operator who asked for them), [`gateway`] (starts, reloads and drains), [`admin`] (the operators' listener), [`demo`]
//! and [`load`] (a set-up and a load on one machine), [`inspect`] (what a body holds, and why it is
//! refused), [`cli`] (flags to calls).
//!
//! # Where to look
//!
//! | question | place |
//! |---|---|
//! | What happens when a hub responds with 413, or anything else? | `forward/reaction.rs`: the table, with what each step leads to |
//! | When is a sample refused that a hub answers with 500? | `suspects.rs` |
//! | When is a series refused because it is new? | `series.rs` |
//! | Why are most labels never taken apart? | `wire/templates.rs` |
//! | Which numbers of a native histogram are refused? | `wire/histogram.rs` |
//! | What is a token told whose key is not known? | `jwks.rs`: the table at its head |
//! | For how long must a spoke wait that sends too much? | `admission/rate.rs` |
//! | Which password is checked next? | `identify/line.rs` |
//! | Which statuses can a spoke see, and when? | `docs/responses.md`; chosen in `write/refusal.rs` before a hub is asked, in `forward/outcome.rs` after a hub's response, and in `write/answer.rs` for both together |
//! | How is the true address of a sender known? | `listener/establish.rs` by connection, `listener/forwarded_for.rs` by request |
//! | Whose handshake is computed next? | `listener/handshake/turns.rs` |
//! | When does a reload end an open connection? | `listener/standing.rs` |
//! | Why was a connection closed? | `listener/connection.rs`: the list at its head |
//! | When does a hub get a new connection? | `forward/connections.rs` |
//! | How many requests is a hub sent at once? | `forward/concurrency.rs` |
//! | What if the clock here is wrong? | `forward/clock.rs` |
//! | Whose request is next? | `shares.rs` |
//! | Why was a request or a series refused? | `reasons.rs` |
//! | What is kept of a refused request, and for whom? | `capture.rs`; filled in `write/aside.rs`, read in `admin/api/capture.rs` |
//! | Where does a new credential scheme go? | `identify.rs`: the list at its head |
//! | Where does a new metric go? | `metrics/families.rs`: the list at its head |
//!
//! # Words
//!
//! **spoke**: a configured source cluster; its name is the value of its cluster label. **hub**: an
//! upstream that takes remote write. **V1**: `prometheus.WriteRequest`. **V2**:
//! `io.prometheus.write.v2.Request`. **verdict**: what the policy decided about a request.
//! **refusal**: hubgate or a hub does not take a request, a message, a series or a sample, with a
//! reason; samples that are refused for good are counted as **rejected**. **payload**: a compressed
//! message for a hub. **upgrade**, **downgrade**: a V1 message encoded as V2, and the other way.
//! **side message**: the V1 message beside a V2 message, with what V2 has no form for. **salvage**:
//! sending again in halves what a hub refused whole. **suspect**: a sample that a hub answers with a
//! fault when it is alone. **control**: a stored sample that is sent once more beside suspects.
//! **written**: acknowledged by a hub. **capture**: the next refused requests of a spoke, for an operator.
//!
//! # Invariants
//!
//! 1. No 2xx before the hub's 2xx. What waits here, waits for seconds: the spoke's write-ahead
//!    log is the queue, so killing hubgate at any moment loses nothing.
//! 2. A 4xx only for facts about the request itself, because Prometheus drops a batch on every
//!    4xx. [`write::refusal`], [`forward::outcome`] and [`write::answer`] are the only places that
//!    choose a status, but for what [`listener`] or hyper refuse before them: heads that are not HTTP,
//!    can be read in two ways, or are too large, and, with 503, connections that do not fit the
//!    configuration.
//! 3. What is checked is what travels on. The hub gets canonical headers and either the bytes
//!    that were walked, when they hold nothing else and nothing changed, or a message encoded
//!    from the walk. Bytes of two requests never meet.
//! 4. received = written + rejected + failed, for each spoke and kind.
//! 5. `wire` and `policy` know no tokio, no HTTP and no metrics: bytes in, values out.
//! 6. Who sends is known before a byte of the body is read, and memory is reserved in the budget
//!    before it is held.
//! 7. Only [`metrics`] names metrics, only [`config`] reads its files, only [`gateway`] starts
//!    long-lived tasks.
//! 8. A configuration is loaded whole or not at all, credentials included, so there is no moment
//!    in which a good credential is unknown: without a configuration there is no listener, and a
//!    broken one leaves the old one in force.
//! 9. A room imports only from rooms below it; `tests/tidy` holds the order, and 5 and 7 as well.

pub mod admin;
pub mod admission;
pub mod budget;
pub mod capture;
pub mod cli;
pub mod config;
pub mod demo;
pub mod forward;
pub mod gateway;
pub mod identify;
pub mod inspect;
pub mod jwks;
pub mod jwt;
pub mod listener;
pub mod load;
pub mod metrics;
pub mod policy;
pub mod printable;
pub mod reasons;
pub mod remote_write;
pub mod rewrite;
pub mod series;
pub mod shares;
pub mod spoke;
pub mod state;
pub mod suspects;
pub mod telemetry;
pub mod tls;
pub mod wire;
pub mod write;

/// The User-Agent of requests to hubs.
pub const USER_AGENT: &str = concat!("hubgate/", env!("CARGO_PKG_VERSION"));
