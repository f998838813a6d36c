//! Values of keys that are left out, and the bounds of values that are given, each with its reason.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{Absent, Ack, HubMetadata, HubProtocol, Mismatch};

const MIB: usize = 1 << 20;
const GIB: u64 = 1 << 30;

/// What Prometheus set-ups call it everywhere.
pub(super) const CLUSTER_LABEL: &str = "cluster";

/// Reachable from spokes without further words; next to Prometheus' 9090 range.
pub(super) const LISTEN_ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9480);

/// Hundreds of spokes with the default of up to 50 shards each, on a few dozen replicas at worst.
pub(super) const CONNECTIONS_MAX: usize = 4096;

/// Loopback: who wants metrics scraped from afar says so.
pub(super) const ADMIN_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9481);

/// Below the 30 s after which Prometheus gives a request up, so that the spoke hears why.
pub(super) const HUB_TIMEOUT: Duration = Duration::from_secs(25);

/// Only the spoke keeps data: a hub that misses a write which another one took misses it for good.
pub(super) const ACK: Ack = Ack::All;

/// To ask a hub costs one empty message, and its answer stays right when the hub is upgraded.
pub(super) const HUB_PROTOCOL: HubProtocol = HubProtocol::Auto;

/// A Prometheus hub stores none of it, so it is not worth further requests.
pub(super) const HUB_METADATA: HubMetadata = HubMetadata::Drop;

/// To find one bad sample among the usual 2000 by halving takes about 20; this is three of them.
pub(super) const SALVAGE_REQUESTS_MAX: usize = 64;

/// Four requests of the largest size at once, or thousands of the usual 200 KiB.
pub(super) const BYTES_IN_FLIGHT_MAX: usize = 256 * MIB;

/// A hundred times the usual request; the hubs' own limits are of this order.
pub(super) const BODY_BYTES_MAX: usize = 32 * MIB;

/// The same for the decoded body: senders count their batches before compression.
pub(super) const DECODED_BYTES_MAX: usize = 32 * MIB;

/// As a scrape with `external_labels` does it.
pub(super) const ABSENT: Absent = Absent::Inject;

/// A foreign cluster label is a mistake or an attack until somebody says otherwise.
pub(super) const MISMATCH: Mismatch = Mismatch::Reject;

/// Twenty-five times the 2000 samples Prometheus sends at once.
pub(super) const SERIES_PER_REQUEST_MAX: usize = 50_000;

/// Three times what kube-state-metrics reaches with all labels allowed.
pub(super) const LABELS_PER_SERIES_MAX: usize = 128;

/// Large enough for the texts people put into info metrics.
pub(super) const LABEL_VALUE_BYTES_MAX: usize = 64 << 10;

/// Ceiling of counts: beyond it a limit limits nothing.
pub(super) const COUNT_CEILING: usize = 10_000_000;

/// Ceiling of further requests to a hub: a spoke gives its own request up long before.
pub(super) const SALVAGE_REQUESTS_CEILING: usize = 10_000;

/// Ceiling of a body, sent or decoded: the snappy block format ends at 4 GiB, and no sender comes
/// near.
pub(super) const BODY_BYTES_CEILING: u64 = GIB;

/// Ceiling of the budget of all requests: beyond it no machine has the memory.
pub(super) const BYTES_IN_FLIGHT_CEILING: u64 = 1024 * GIB;

/// Ceiling of a wait: senders give up long before.
pub(super) const TIMEOUT_CEILING: Duration = Duration::from_secs(3600);
