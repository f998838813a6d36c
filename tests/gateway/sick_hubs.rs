//! A hub that is stopped, silent, slow or talks without end: it takes no memory and no other hub with
//! it, nothing is lost, and it is used again soon after it is well.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::body::{Protocol, Series, bare, noises, now};
use crate::support::config::{config_hubs, config_with_hub_keys, hub_named, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::prometheus::{Binary, ONE_AT_A_TIME, Prometheus};
use crate::support::sender::Request;
use crate::support::sick_hub::{Illness, SickHub};
use crate::support::{DEADLINE, eventually, eventually_equal};

/// Writes while a hub is ill: more than it is sent at once.
const WRITES: usize = 48;

/// The keys of a hub that falls ill.
const KEYS: &str = "protocol: v1, timeout: 2s";

/// What the gate may hold, in MiB. All writes together need less.
const BUDGET_MIB: u64 = 64;

/// Longest pause of a sender between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Write `number`: two series, of about 60 kB together, which do not compress.
fn batch(number: usize) -> Vec<Series> {
    static NOISES: LazyLock<[String; 2]> = LazyLock::new(|| noises(30_000));
    let series = NOISES.iter().zip(0..).map(|(noise, half)| {
        bare(&format!(
            "__name__=up,cluster=production,half={half},noise={noise},number={number}"
        ))
    });
    series.map(|series| series.sample(1.0, now())).collect()
}

/// The numbers of the writes that some series are of.
fn numbers(stored: &[Series]) -> BTreeSet<usize> {
    let labels = stored.iter().flat_map(|series| &series.labels);
    let numbers = labels.filter(|(name, _)| name == "number");
    numbers.map(|(_, value)| value.parse().unwrap()).collect()
}

/// Sends a write until it is stored, as a Prometheus does, but less patiently.
async fn deliver(gate: SocketAddr, series: Vec<Series>) {
    let request = Request::series(Protocol::V1, &series).spoke("production");
    let mut pause = Duration::from_millis(30);
    loop {
        let response = request.clone().send(gate).await.expect("a response");
        if response.status == 204 {
            return;
        }
        // Less would be lost.
        assert!(response.status >= 500, "{response:?}");
        pause = (pause * 2).min(PAUSE_MAX);
        tokio::time::sleep(pause).await;
    }
}

/// Starts a sender for each of these writes.
fn send(gate: &Gate, numbers: impl Iterator<Item = usize>) -> JoinSet<()> {
    let mut senders = JoinSet::new();
    for number in numbers {
        senders.spawn(deliver(gate.write_address(), batch(number)));
    }
    senders
}

/// Waits until all have ended.
async fn join(what: &str, senders: JoinSet<()>) {
    let all = tokio::time::timeout(DEADLINE, senders.join_all()).await;
    all.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"));
}

/// A hub is ill beside one that is well.
async fn expect_harmless_with(illness: Illness, ack: &str) {
    let case = format!("{illness:?}, ack: {ack}");
    let (sick, well) = (SickHub::start().await, ScriptedHub::start().await);
    let hubs = [
        hub_named("sick", &sick.url(), KEYS),
        hub_named("well", &well.url(), "protocol: v1"),
    ];
    let yaml = config_hubs(ack, &hubs, &[spoke("production", "")]);
    let limits = format!("limits: {{bytes_in_flight_max: {BUDGET_MIB}MiB}}\n");
    let gate = Gate::start(&(limits + &yaml)).await;
    join(&case, send(&gate, 0..4)).await;

    sick.fall_ill(illness);
    let mut senders = send(&gate, 4..WRITES);
    let mut at_well = BTreeSet::new();
    eventually(&case, DEADLINE, async || {
        at_well.extend(numbers(&well.take_stored()));
        if at_well.len() == WRITES {
            Ok(())
        } else {
            Err(at_well.len())
        }
    })
    .await;
    if ack == "any" {
        join(&case, std::mem::take(&mut senders)).await;
    }
    eventually(&case, DEADLINE, async || {
        let metrics = gate.metrics().await;
        let held = metrics.sum("hubgate_bytes_in_flight", &[]);
        assert!(held <= (BUDGET_MIB << 20) as f64, "{case}: {held} bytes");
        let all = metrics.sum_or_zero("hubgate_hub_requests_total", &[("hub", "sick")]);
        let labels = [("hub", "sick"), ("code", "204")];
        let failed = all - metrics.sum("hubgate_hub_requests_total", &labels);
        if failed >= 4.0 { Ok(()) } else { Err(failed) }
    })
    .await;
    let ended = senders.try_join_next();
    assert!(ended.is_none(), "{case}: a hub that is ill took a write");

    sick.cure();
    join(&case, senders).await;
    // With `ack: any` nobody waits for the hub, which has what was written since it is well.
    let mut at_sick = BTreeSet::new();
    let mut written = WRITES;
    eventually(&case, DEADLINE, async || {
        deliver(gate.write_address(), batch(written)).await;
        written += 1;
        at_sick.extend(numbers(&sick.take_stored()));
        let newest = at_sick.last().copied();
        if newest >= Some(WRITES) {
            Ok(())
        } else {
            Err(newest)
        }
    })
    .await;
    if ack == "all" {
        assert!(at_sick.is_superset(&(0..WRITES).collect()), "{case}");
    }
    gate.expect_balanced_counts("production").await;
    let samples = 2.0 * written as f64;
    assert_eq!(gate.samples("written", "float").await, samples, "{case}");
    let metrics = gate.metrics().await;
    let labels = [("spoke", "production")];
    assert_eq!(metrics.samples("rejected", &labels), 0.0, "{case}");
    gate.wait_for_metric("hubgate_bytes_in_flight", &[], 0.0)
        .await;
    gate.expect_peak_memory_below(BUDGET_MIB + 96);
}

/// As [`expect_harmless_with`], whether the spokes wait for the hub or not.
async fn expect_harmless(illness: Illness) {
    tokio::join!(
        expect_harmless_with(illness, "all"),
        expect_harmless_with(illness, "any"),
    );
}

#[tokio::test]
async fn a_hub_that_accepts_no_connection_harms_nobody() {
    expect_harmless(Illness::Stopped).await;
}

#[tokio::test]
async fn a_hub_that_never_responds_harms_nobody() {
    expect_harmless(Illness::Silent).await;
}

#[tokio::test]
async fn a_hub_that_sends_a_byte_of_a_head_a_second_harms_nobody() {
    expect_harmless(Illness::SlowHead).await;
}

#[tokio::test]
async fn a_hub_that_sends_a_byte_of_a_body_a_second_harms_nobody() {
    expect_harmless(Illness::SlowBody).await;
}

#[tokio::test]
async fn a_hub_that_sends_a_head_without_end_harms_nobody() {
    expect_harmless(Illness::EndlessHead).await;
}

#[tokio::test]
async fn a_hub_that_sends_a_body_without_end_harms_nobody() {
    expect_harmless(Illness::EndlessBody).await;
}

#[tokio::test]
async fn a_hub_that_sends_a_gibibyte_harms_nobody() {
    expect_harmless(Illness::GibibyteBody).await;
}

/// What was sent before waits for its timeout of 25 s, since nobody knows that it waits in vain.
#[tokio::test]
async fn a_hub_that_is_well_again_is_used_while_earlier_requests_wait_in_vain() {
    for illness in [Illness::Silent, Illness::SlowBody] {
        let hub = SickHub::start().await;
        let spokes = [spoke("production", ""), spoke("staging", "")];
        let yaml = config_with_hub_keys(&hub.url(), "protocol: v1", &spokes);
        let gate = Gate::start(&yaml).await;
        hub.fall_ill(illness);
        let mut senders = send(&gate, 0..WRITES);
        eventually("all places at the hub are taken", DEADLINE, async || {
            let waiting = gate.sum("hubgate_hub_requests_waiting", &[]).await;
            if waiting > 0.0 { Ok(()) } else { Err(waiting) }
        })
        .await;
        hub.cure();
        let write = Request::up().spoke("staging");
        let written = tokio::time::timeout(DEADLINE, gate.send(write)).await;
        written.expect("a response in time").expect(204);
        let metrics = gate.metrics().await;
        let timeouts = metrics.sum_or_zero("hubgate_hub_requests_total", &[("code", "timeout")]);
        assert_eq!(timeouts, 0.0, "{illness:?}");
        senders.shutdown().await;
    }
}

/// The system accepts its connections, and takes what fits into the buffers of sockets.
#[tokio::test]
async fn a_prometheus_that_was_stopped_has_every_sample_soon_after_it_goes_on() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        let hub = Prometheus::start_hub(&binary).await;
        let yaml = config_with_hub_keys(&hub.url(), "timeout: 2s", &[spoke("production", "")]);
        let gate = Gate::start(&yaml).await;
        gate.wait_for_protocol(None, binary.receives()).await;
        join("a Prometheus that is well", send(&gate, 0..4)).await;
        hub.signal("STOP");
        let senders = send(&gate, 4..WRITES);
        let timeouts = [("code", "timeout")];
        eventually("requests take too long", DEADLINE, async || {
            let metrics = gate.metrics().await;
            let seen = metrics.sum_or_zero("hubgate_hub_requests_total", &timeouts);
            if seen >= 4.0 { Ok(()) } else { Err(seen) }
        })
        .await;
        hub.signal("CONT");
        join("a Prometheus that goes on", senders).await;
        let count = "count(count by (number, half) (up{number!=\"\"}))";
        eventually_equal(
            "samples at the hub",
            DEADLINE,
            2.0 * WRITES as f64,
            async || hub.value(count).await,
        )
        .await;
        gate.expect_balanced_counts("production").await;
        let written = gate.samples("written", "float").await;
        assert_eq!(written, 2.0 * WRITES as f64);
        gate.expect_peak_memory_below(192);
    }
}
