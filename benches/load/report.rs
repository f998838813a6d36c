//! The tables of the bench.

use crate::cliffs::{Cell, Row, Table};
use crate::hub::{Cost, SetUp};
use crate::markdown::{millis, table};
use crate::measure::Figures;
use crate::real_spoke;
use crate::subjects::Subject;
use crate::traffic::Mix;

pub(crate) use crate::markdown::{line, machine, note};

/// Prints the table of all subjects with the usual traffic of a mix. What vmauth needs to copy the same
/// bodies is the measure of the others.
pub(crate) fn subjects(mix: Mix, rows: &[(Subject, Figures)]) -> anyhow::Result<()> {
    let head = [
        &mix.usual().name(),
        "sent",
        "work",
        "CPU-s / M samples",
        "of vmauth",
        "samples/s",
        "p50 ms",
        "p99 ms",
        "peak MiB",
        "delivered / sent",
    ];
    let of_vmauth = |subject: &Subject, figures: &Figures| {
        let vmauth = rows.iter().find(|(other, _)| other.is_vmauth_of(subject));
        vmauth.map(|(_, vmauth)| figures.cost() / vmauth.cost())
    };
    let row = |(subject, figures): &(Subject, Figures)| {
        vec![
            subject.name().to_owned(),
            subject.sent.name().to_uppercase(),
            subject.work.to_owned(),
            format!("{:.3}", figures.cost()),
            of_vmauth(subject, figures).map_or_else(String::new, |times| format!("{times:.2}")),
            format!("{:.0}", figures.samples_per_second()),
            millis(figures.latency.p50),
            millis(figures.latency.p99),
            format!("{:.1}", figures.peak_mebibytes()),
            format!("{} / {}", figures.delivered, figures.sent),
        ]
    };
    table(&head, 3, rows.iter().map(row))
}

/// Prints what a sample costs with each traffic of a table, how many times as much as with its base,
/// and the peak of memory. The costs are CPU seconds per million samples.
pub(crate) fn cliffs(of: &Table, cells: &[Cell]) -> anyhow::Result<()> {
    let mut columns: Vec<&str> = Vec::new();
    for cell in cells {
        if !columns.contains(&cell.subject.column()) {
            columns.push(cell.subject.column());
        }
    }
    let figures = |row: &Row, column: &str| {
        let mut cells = cells.iter();
        let found = cells
            .find(|cell| (cell.subject.traffic, cell.subject.column()) == (row.traffic, column));
        found.map(|cell| &cell.figures)
    };
    let base = of.rows.iter().find(|row| row.traffic == of.base);
    let times = |row: &Row, column: &str| {
        let cost = |row| figures(row, column).map(Figures::cost);
        Some(cost(row)? / cost(base?)?)
    };
    let text = |row: &Row, column: &str| {
        let Some(figures) = figures(row, column) else {
            return String::new();
        };
        let times = times(row, column).map_or_else(String::new, |it| format!("{it:.2} times, "));
        let (cost, peak) = (figures.cost(), figures.peak_mebibytes());
        format!("{cost:.3}, {times}{peak:.0} MiB")
    };
    let is_measured = |row: &&Row| columns.iter().any(|column| figures(row, column).is_some());
    let line_of = |row: &Row| {
        let cells = columns.iter().map(|column| text(row, column));
        std::iter::once(row.traffic.name()).chain(cells).collect()
    };
    let title = format!("{}: CPU-s / M samples", of.name);
    let head: Vec<&str> = std::iter::once(title.as_str())
        .chain(columns.iter().copied())
        .collect();
    table(&head, 1, of.rows.iter().filter(is_measured).map(line_of))?;
    let own = cells.iter().filter(|cell| cell.subject.is_hubgate());
    let bounded = own.filter_map(|cell| {
        let mut rows = of.rows.iter();
        let row = rows.find(|row| row.is_bounded && row.traffic == cell.subject.traffic)?;
        Some((times(row, cell.subject.column())?, &cell.subject))
    });
    let most = bounded.max_by(|(left, _), (right, _)| left.total_cmp(right));
    match (most, of.times_max) {
        (Some((times, subject)), Some(max)) => {
            let (work, traffic) = (subject.work, subject.traffic.name());
            line(&format!(
                "hubgate: at most {times:.2} times ({work}: {traffic}); the bound is {max}\n"
            ))
        }
        _ => Ok(()),
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

/// Prints the table of a Prometheus as hub of a real spoke. The second row is divided by the first
/// one.
pub(crate) fn real_spoke(version: &str, rows: &[(&str, real_spoke::Cost)]) -> anyhow::Result<()> {
    let head = [
        &format!("Prometheus {version}, a spoke of this version scrapes a cluster and sends V1"),
        "hub CPU-s / M samples",
        "gate",
        "sum",
        "of hub alone",
        "samples appended",
        "samples/s",
    ];
    let alone = rows.iter().find(|(_, cost)| cost.gate.is_none());
    let row = |(name, cost): &(&str, real_spoke::Cost)| {
        let of_alone = alone.map(|(_, alone)| cost.sum() / alone.sum());
        vec![
            (*name).to_owned(),
            format!("{:.3}", cost.hub),
            cost.gate
                .map_or_else(String::new, |gate| format!("{gate:.3}")),
            format!("{:.3}", cost.sum()),
            of_alone.map_or_else(String::new, |times| format!("{times:.2}")),
            cost.samples.to_string(),
            format!("{:.0}", cost.samples_per_second),
        ]
    };
    table(&head, 1, rows.iter().map(row))
}
