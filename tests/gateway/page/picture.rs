//! The picture in `README.md`: an hour of ten clusters, which write to a gate whose clock runs faster.

use std::f64::consts::TAU;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::url;
use crate::api::ask;
use crate::support::body::{Protocol, Series, bare, series};
use crate::support::browser::Browser;
use crate::support::config::{config, spoke};
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::reply::Reply;
use crate::support::sender::Request;

const FILE: &str = "docs/status-page.webp";

/// A README is loaded whole.
const BYTES_MAX: u64 = 150_000;

/// How many times as fast as others the clock of the gate is. With more, its timeouts are too short.
const SPEED: u32 = 20;

/// The time between two requests of a spoke, by the clock of the gate.
const STEP: Duration = Duration::from_secs(5);

/// The minutes after which the picture is taken.
const HOUR: f64 = 60.0;

/// A cluster, and what is special about it.
struct Cluster {
    name: &'static str,
    protocol: Protocol,
    sender: &'static str,
    samples_per_second: f64,
    keys: &'static str,
    /// The minutes at the end of the hour in which it writes nothing.
    silent: f64,
    /// How far its samples are behind, in minutes, at the end of the hour.
    late: f64,
    /// One of so many requests has a series of another cluster.
    forges: Option<u64>,
}

const CLUSTER: Cluster = Cluster {
    name: "",
    protocol: Protocol::V2,
    sender: "Prometheus/3.12.0",
    samples_per_second: 40.0,
    keys: "",
    silent: 0.0,
    late: 0.0,
    forges: None,
};

const CLUSTERS: [Cluster; 9] = [
    Cluster {
        name: "production-eu",
        samples_per_second: 180.0,
        keys: "limits: {active_series_max: 120}",
        ..CLUSTER
    },
    Cluster {
        name: "production-us",
        samples_per_second: 240.0,
        keys: "limits: {active_series_max: 180}",
        forges: Some(3),
        ..CLUSTER
    },
    Cluster {
        name: "production-asia",
        samples_per_second: 90.0,
        late: 14.0,
        ..CLUSTER
    },
    Cluster {
        name: "staging-eu",
        protocol: Protocol::V1,
        sender: "Prometheus/2.53.4",
        silent: 12.0,
        ..CLUSTER
    },
    Cluster {
        name: "staging-us",
        samples_per_second: 30.0,
        ..CLUSTER
    },
    Cluster {
        name: "load-tests",
        sender: "Alloy/1.12.0",
        samples_per_second: 112.0,
        keys: "limits: {samples_per_second: 108}",
        ..CLUSTER
    },
    Cluster {
        name: "edge-berlin",
        sender: "vmagent/1.130.0",
        protocol: Protocol::V1,
        samples_per_second: 12.0,
        ..CLUSTER
    },
    Cluster {
        name: "edge-lima",
        protocol: Protocol::V1,
        sender: "Prometheus/2.53.4",
        samples_per_second: 9.0,
        ..CLUSTER
    },
    Cluster {
        name: "edge-oslo",
        samples_per_second: 15.0,
        ..CLUSTER
    },
];

impl Cluster {
    /// What it writes in a step, at a time of the gate in minutes since its start and in milliseconds since
    /// the epoch.
    fn series(&self, step: u64, place: usize, minutes: f64, now: i64) -> Vec<Series> {
        let place = place as f64;
        let wave = (TAU * (minutes / (23.0 + 5.0 * place) + place / 7.0)).sin();
        // Not the same in two steps, and the same in two runs.
        let noise = (step * 7919 + place as u64 * 104_729) % 97;
        let rate = self.samples_per_second * (1.0 + 0.15 * wave + 0.001 * noise as f64);
        let lag = self.late * 60_000.0 * (minutes / 30.0 - 1.0).max(0.0);
        let newest = now - lag as i64;
        // Ten samples each.
        let count = (rate * STEP.as_secs_f64() / 10.0) as usize;
        let of_one = |number: usize| {
            let name = format!("__name__=requests_total,handler=h{number}");
            (0..10).fold(bare(&name), |series, place| {
                series.sample(1.0, newest - 500 * (9 - place))
            })
        };
        let mut all: Vec<_> = (0..count).map(of_one).collect();
        if self.forges.is_some_and(|every| step.is_multiple_of(every)) {
            all.push(series("__name__=up,cluster=production-eu"));
        }
        all
    }
}

/// Has all clusters write. Does not return.
async fn write(hub: &ScriptedHub, gate: &Gate) {
    let mut steps = interval(STEP / SPEED);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for step in 0.. {
        steps.tick().await;
        let status = ask(gate, "/api/v1/status").await;
        let now = status["timestamp_seconds"].as_f64().unwrap();
        let minutes = minutes(&status);
        match minutes {
            // The hub restarts.
            25.0..26.0 => hub.reply_always(Reply::status(503)),
            _ => hub.reply_as_usual(),
        }
        for (place, cluster) in CLUSTERS.iter().enumerate() {
            if minutes > HOUR - cluster.silent {
                continue;
            }
            let series = cluster.series(step, place, minutes, (now * 1000.0) as i64);
            let request = Request::series(cluster.protocol, &series)
                .spoke(cluster.name)
                .from(&format!("127.0.{}.10", place + 1))
                .header("user-agent", cluster.sender);
            // What becomes of it is on the page.
            let _ = gate.try_send(request).await;
        }
    }
}

/// For how many minutes the gate runs, by its clock.
fn minutes(status: &Value) -> f64 {
    let time = |name: &str| status[name].as_f64().unwrap();
    (time("timestamp_seconds") - time("start_timestamp_seconds")) / 60.0
}

/// With `UPDATE` set, this makes the picture, which takes three minutes.
#[tokio::test]
async fn the_picture_of_the_readme_is_there_and_small() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE").is_some() {
        make(&root.join(FILE)).await;
    }
    let picture = std::fs::metadata(root.join(FILE)).expect("the picture");
    assert!(picture.len() <= BYTES_MAX, "{} bytes", picture.len());
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let [before, _] = readme.splitn(2, &format!("]({FILE})")).collect::<Vec<_>>()[..] else {
        panic!("README.md shows no {FILE}");
    };
    let alternative = before.rsplit("![").next().unwrap();
    assert!(alternative.len() > 100, "{alternative:?} says little");
}

async fn make(file: &Path) {
    let hub = ScriptedHub::start().await;
    let mut spokes: Vec<_> = CLUSTERS.iter().map(|it| spoke(it.name, it.keys)).collect();
    spokes.push(spoke("lab", ""));
    let gate = Gate::start_with_fast_clock(&config(&hub.url(), &spokes), SPEED).await;
    tokio::select! {
        () = write(&hub, &gate) => unreachable!("it does not return"),
        () = take(&gate, file) => {}
    }
}

/// Takes the picture after an hour, and others of the other views for people to look at.
async fn take(gate: &Gate, file: &Path) {
    let mut browser = Browser::start(1280, 900).await;
    eventually("an hour", Duration::from_mins(5), async || {
        let minutes = minutes(&ask(gate, "/api/v1/status").await);
        if minutes > HOUR { Ok(()) } else { Err(minutes) }
    })
    .await;
    browser.resize_sharper(1280, 790, 1.5).await;
    browser.go(&url(gate, "")).await;
    browser
        .until("document.querySelectorAll('#rows .line[d*=L]').length >= 10")
        .await;
    std::fs::write(file, browser.webp().await).unwrap();
    for scheme in ["dark", "light"] {
        browser.prefer(scheme).await;
        browser.picture(&format!("readme-{scheme}")).await;
    }
    for (view, element) in [
        ("#/hubs", "#hubs figure"),
        ("#/spokes/load-tests", "#spoke figure"),
        ("#/spokes/production-us", "#spoke figure"),
    ] {
        browser.go(&url(gate, view)).await;
        browser
            .until(&format!(
                "document.querySelector('{element}').checkVisibility()"
            ))
            .await;
        for width in [1280, 360] {
            browser.resize(width, 1500).await;
            browser
                .picture(&format!("readme-{width}{}", view.replace(['#', '/'], "-")))
                .await;
        }
    }
    browser.expect_no_complaint().await;
}
