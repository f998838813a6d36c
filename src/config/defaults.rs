//! Values of keys that are left out, and the bounds of values that are given, each with its reason.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::tls::MinVersion;

use super::{
    Absent, Ack, ForwardedFor, HubMetadata, HubProtocol, LimitAnswer, Mismatch, ProxyProtocol,
};

const MIB: usize = 1 << 20;
const GIB: u64 = 1 << 30;

/// The usual name of this label in Prometheus set-ups.
pub(super) const CLUSTER_LABEL: &str = "cluster";

/// Whoever scrapes has a credential as well, and need not see what spokes send.
pub(super) const MAY_CAPTURE: bool = false;

/// All IPv4 addresses, because spokes connect from other machines.
pub(super) const LISTEN_ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9480);

/// A Prometheus has up to 50 shards by default, each with a connection. This is enough for 80
/// spokes with all their shards, and for hundreds that run with a few.
pub(super) const CONNECTIONS_MAX: usize = 4096;

/// Without a proxy the socket has the address. Whoever connects could choose one if hubgate took the
/// word of everybody.
pub(super) const PROXY_PROTOCOL: ProxyProtocol = ProxyProtocol::Off;

/// As for the PROXY protocol.
pub(super) const FORWARDED_FOR: ForwardedFor = ForwardedFor::Off;

/// A quarter of all connections. This is enough for ten pairs of Prometheus behind one NAT, each with
/// all its 50 shards.
pub(super) const CONNECTIONS_PER_ADDRESS_MAX: usize = 1024;

/// After a change of replicas, connections are spread over all of them within this time. A new
/// connection in this time costs nothing.
pub(super) const LISTEN_CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// The loopback address: an operator who wants remote access has to configure it.
pub(super) const ADMIN_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9481);

/// All that speak TLS today speak 1.2, and its cipher suites here all have forward secrecy.
pub(super) const TLS_MIN_VERSION: MinVersion = MinVersion::Tls12;

/// Below the 30 s after which Prometheus gives up a request, so that the spoke gets a response with
/// the reason.
pub(super) const HUB_TIMEOUT: Duration = Duration::from_secs(25);

/// A hub whose name moves is followed within this time, also while the old address works. A new
/// connection in this time costs nothing.
pub(super) const CONNECTION_AGE_MAX: Duration = Duration::from_secs(300);

/// Only the spoke keeps data for a retry. With `any`, a hub that misses a write which another one
/// accepted never gets it.
pub(super) const ACK: Ack = Ack::All;

/// A probe costs one empty message, and repeated probes notice when a hub is upgraded.
pub(super) const HUB_PROTOCOL: HubProtocol = HubProtocol::Auto;

/// A Prometheus hub does not store metadata, so it is not worth additional requests.
pub(super) const HUB_METADATA: HubMetadata = HubMetadata::Drop;

/// Finding one bad sample among the usual 2,000 by halving takes about 20 requests, so this is
/// enough for three.
pub(super) const SALVAGE_REQUESTS_MAX: usize = 64;

/// Enough for four requests of the largest size at once, or more than a thousand of the usual
/// 200 KiB.
pub(super) const BYTES_IN_FLIGHT_MAX: usize = 256 * MIB;

/// More than a hundred times the usual request. The limits of hubs are of this order.
pub(super) const BODY_BYTES_MAX: usize = 32 * MIB;

/// The same as for the body as sent, because senders measure their batches before compression.
pub(super) const DECODED_BYTES_MAX: usize = 32 * MIB;

/// `external_labels` of Prometheus adds an absent label too.
pub(super) const ABSENT: Absent = Absent::Inject;

/// The cluster label of another spoke is a mistake or an attack unless the operator expects it.
pub(super) const MISMATCH: Mismatch = Mismatch::Reject;

/// Twenty-five times the 2,000 samples that Prometheus sends at once.
pub(super) const SERIES_PER_REQUEST_MAX: usize = 50_000;

/// Three times as many as kube-state-metrics reaches with all labels allowed.
pub(super) const LABELS_PER_SERIES_MAX: usize = 128;

/// Large enough for the texts that people put into info metrics.
pub(super) const LABEL_VALUE_BYTES_MAX: usize = 64 << 10;

/// What Prometheus takes since 2.54 (`storage/remote/write_handler.go`, `maxAheadTime`). Before, one
/// sample far ahead makes the samples of everybody too old for its out-of-order window.
pub(super) const SAMPLES_AHEAD_MAX: Duration = Duration::from_secs(600);

/// Every sender sends again after 503, and a Prometheus drops what was refused with 429 unless it is
/// told not to.
pub(super) const LIMIT_ANSWER: LimitAnswer = LimitAnswer::ServiceUnavailable;

/// All spokes have equal shares.
pub(super) const WEIGHT: NonZeroU32 = NonZeroU32::MIN;

/// Ceiling of the weight of a spoke. One of 1 has next to no places beside it.
pub(super) const WEIGHT_CEILING: u32 = 1000;

/// Ceiling of counts. A higher limit would never be reached.
pub(super) const COUNT_CEILING: usize = 10_000_000;

/// Ceiling of additional requests to a hub. A spoke gives up its own request long before.
pub(super) const SALVAGE_REQUESTS_CEILING: usize = 10_000;

/// Ceiling of a body, as sent or decoded. The snappy block format ends at 4 GiB, and no sender
/// comes near it.
pub(super) const BODY_BYTES_CEILING: u64 = GIB;

/// Ceiling of the budget of all requests, beyond the memory of the machines that run hubgate.
pub(super) const BYTES_IN_FLIGHT_CEILING: u64 = 1024 * GIB;

/// Ceiling of a timeout. Senders give up long before.
pub(super) const TIMEOUT_CEILING: Duration = Duration::from_secs(3600);

/// Ceiling of the age of a spoke's connection. Whoever wants more wants no limit.
pub(super) const CONNECTION_AGE_CEILING: Duration = Duration::from_secs(24 * 3600);

/// Ceiling of the time by which a sample may be behind. Whoever wants more wants no limit.
pub(super) const SAMPLES_AGE_CEILING: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Ceiling of the time by which a sample may be ahead. Whoever wants more wants no limit.
pub(super) const SAMPLES_AHEAD_CEILING: Duration = Duration::from_secs(365 * 24 * 3600);
