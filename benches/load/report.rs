//! The tables of the bench.

use crate::driver::Body;
use crate::hub::{Cost, SetUp};
use crate::markdown::{millis, table};
use crate::measure::Figures;
use crate::subjects::Subject;

pub(crate) use crate::markdown::{line, machine, note};

/// Prints the table of all subjects with a body.
pub(crate) fn subjects(body: Body, rows: &[(Subject, Figures)]) -> anyhow::Result<()> {
    let head = [
        &body.name(),
        "sent",
        "work",
        "CPU-s / M samples",
        "samples/s",
        "p50 ms",
        "p99 ms",
        "peak MiB",
        "delivered / sent",
    ];
    let row = |(subject, figures): &(Subject, Figures)| {
        vec![
            subject.name().to_owned(),
            subject.sent.name().to_uppercase(),
            subject.work.to_owned(),
            format!("{:.3}", figures.cost()),
            format!("{:.0}", figures.samples_per_second()),
            millis(figures.latency.p50),
            millis(figures.latency.p99),
            format!("{:.1}", figures.peak_bytes as f64 / f64::from(1 << 20)),
            format!("{} / {}", figures.delivered, figures.sent),
        ]
    };
    table(&head, 3, rows.iter().map(row))
}

/// Prints what a sample costs with each body of a mix, and how many times as much as with its 2,000
/// series. The costs are CPU seconds per million samples.
pub(crate) fn sizes(mix: Body, costs: &[(Subject, f64)]) -> anyhow::Result<()> {
    let mut columns: Vec<&str> = Vec::new();
    for (subject, _) in costs {
        if !columns.contains(&subject.column()) {
            columns.push(subject.column());
        }
    }
    let cost = |body: Body, column: &str| {
        let mut costs = costs.iter();
        let found = costs.find(|(subject, _)| subject.body == body && subject.column() == column);
        found.map(|(_, cost)| *cost)
    };
    let cell = |body: Body, column: &str| match (cost(body, column), cost(mix, column)) {
        (Some(cost), Some(base)) => format!("{cost:.3}, {:.2} times", cost / base),
        (Some(cost), None) => format!("{cost:.3}"),
        (None, _) => String::new(),
    };
    let bodies = mix.sizes().into_iter();
    let bodies = bodies.filter(|body| columns.iter().any(|column| cost(*body, column).is_some()));
    let row = |body: Body| {
        let cells = columns.iter().map(|column| cell(body, column));
        std::iter::once(body.name()).chain(cells).collect()
    };
    let head: Vec<&str> = std::iter::once("CPU-s / M samples")
        .chain(columns.iter().copied())
        .collect();
    table(&head, 1, bodies.map(row))?;
    let of_hubgate = costs.iter().filter(|(subject, _)| subject.is_hubgate());
    let times = of_hubgate.filter_map(|(subject, own)| Some(own / cost(mix, subject.column())?));
    match times.reduce(f64::max) {
        Some(most) => line(&format!("hubgate: at most {most:.2} times\n")),
        None => Ok(()),
    }
}

/// Prints the table of latencies at one rate, with and without the gate.
pub(crate) fn added_latency(rate: f64, direct: &Figures, gate: &Figures) -> anyhow::Result<()> {
    let head = [
        &format!("at {rate:.0} samples/s"),
        "p50 ms",
        "p99 ms",
        "requests too late",
    ];
    let row = |name: &str, figures: &Figures| {
        vec![
            name.to_owned(),
            millis(figures.latency.p50),
            millis(figures.latency.p99),
            figures.requests_unsent.to_string(),
        ]
    };
    let (with, without) = (gate.latency, direct.latency);
    let added = vec![
        "added by the gate".to_owned(),
        millis(with.p50 - without.p50),
        millis(with.p99 - without.p99),
        String::new(),
    ];
    let rows = [
        row("sink alone", direct),
        row("hubgate, V1 to V1, unchanged", gate),
        added,
    ];
    table(&head, 1, rows.into_iter())
}

/// Prints the table of a Prometheus, alone and behind the gate. The other rows are divided by the
/// first one.
pub(crate) fn hub(version: &str, rate: u32, rows: &[(SetUp, Cost)]) -> anyhow::Result<()> {
    let head = [
        &format!("Prometheus {version} at {rate} samples/s"),
        "hub CPU-s / M samples",
        "gate",
        "sum",
        &rows
            .first()
            .map_or_else(String::new, |(set_up, _)| format!("of {}", set_up.name())),
        "p50 ms",
        "p99 ms",
        "samples appended",
        "requests too late",
    ];
    let base = rows.first().map_or(f64::NAN, |(_, cost)| cost.sum());
    let row = |(set_up, cost): &(SetUp, Cost)| {
        vec![
            set_up.name(),
            format!("{:.3}", cost.hub),
            cost.gate
                .map_or_else(String::new, |gate| format!("{gate:.3}")),
            format!("{:.3}", cost.sum()),
            format!("{:.2}", cost.sum() / base),
            millis(cost.latency.p50),
            millis(cost.latency.p99),
            cost.samples.to_string(),
            cost.requests_unsent.to_string(),
        ]
    };
    table(&head, 1, rows.iter().map(row))
}
