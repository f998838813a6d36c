//! What benches print: Markdown tables on stdout, for a record, and notes on stderr.

use std::io::{self, Write};
use std::process::Command;
use std::time::SystemTime;

/// Prints a note about the progress.
pub(crate) fn note(text: &str) -> anyhow::Result<()> {
    writeln!(io::stderr(), "{text}")?;
    Ok(())
}

/// Prints a line of the report.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}

/// Prints where, when and with which commit the figures were measured.
pub(crate) fn machine() -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?;
    let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown CPU", |model| model.trim_matches(['\t', ' ', ':']));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    line(&format!(
        "machine: {cores} cores, {model}, Linux {}",
        kernel.trim()
    ))?;
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    line(&format!("date: {now}"))?;
    line(&format!(
        "hubgate: {} {}",
        env!("CARGO_PKG_VERSION"),
        commit()
    ))
}

/// The commit, or nothing if the sources are no checkout.
fn commit() -> String {
    let git = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR")])
        .args(["describe", "--always", "--dirty"])
        .output();
    let text = git.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// Formats seconds as milliseconds.
pub(crate) fn millis(seconds: f64) -> String {
    format!("{:.2}", seconds * 1e3)
}

/// Prints a Markdown table. The first `left` columns are text, the others figures.
pub(crate) fn table(
    head: &[&str],
    left: usize,
    rows: impl Iterator<Item = Vec<String>>,
) -> anyhow::Result<()> {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(column, (cell, &width))| {
                if column < left {
                    format!("{cell:width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        line(&format!("| {} |", cells.join(" | ")))?;
        if number == 0 {
            let rules = widths.iter().enumerate().map(|(column, &width)| {
                let end = if column < left { "-" } else { ":" };
                format!("{}{end}", "-".repeat(width - 1))
            });
            line(&format!("| {} |", rules.collect::<Vec<_>>().join(" | ")))?;
        }
    }
    line("")
}
