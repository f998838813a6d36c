//! A parsed scrape: values are looked up by name and labels.

use std::collections::{BTreeMap, BTreeSet};

/// The text of a scrape and the samples in it.
pub(crate) struct Metrics {
    pub(crate) text: String,
    samples: Vec<Scraped>,
}

struct Scraped {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .filter(|l| !l.is_empty() && !l.starts_with('#'));
        Self {
            text: text.to_owned(),
            samples: lines.map(parse_line).collect(),
        }
    }

    /// The values of the series of a metric with these labels. There must be one.
    #[track_caller]
    pub(crate) fn values(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let matching = self.matching(name, labels);
        let values: Vec<f64> = matching.map(|sample| sample.value).collect();
        assert!(!values.is_empty(), "no {name}{labels:?} in\n{}", self.text);
        values
    }

    /// The sum over the series of a metric with these labels. There must be one.
    #[track_caller]
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.values(name, labels).iter().sum()
    }

    /// The same sum, or 0 when there is no such series.
    pub(crate) fn sum_or_zero(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// The count of samples that were `received`, `written`, `rejected` or `failed`, over the series
    /// with these labels.
    #[track_caller]
    pub(crate) fn samples(&self, fate: &str, labels: &[(&str, &str)]) -> f64 {
        let name = format!("hubgate_samples_{fate}_total");
        if fate == "rejected" {
            // The series of most kinds and reasons exist from their first count on.
            self.sum_or_zero(&name, labels)
        } else {
            self.sum(&name, labels)
        }
    }

    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    /// The distinct values of a label in the series of a metric, sorted.
    pub(crate) fn label_values(&self, name: &str, label: &str) -> Vec<&str> {
        let matching = self.matching(name, &[]);
        let mut values: Vec<_> = matching
            .filter_map(|sample| sample.labels.get(label))
            .map(String::as_str)
            .collect();
        values.sort_unstable();
        values.dedup();
        values
    }

    /// The name and labels of each series, sorted; a bucket bound is a number, which the formats
    /// spell in their own ways.
    pub(crate) fn series(&self) -> BTreeSet<String> {
        let series = |sample: &Scraped| {
            let label = |(name, value): (&String, &String)| match value.parse::<f64>() {
                Ok(bound) if name == "le" => format!("le=\"{bound}\""),
                _ => format!("{name}={value:?}"),
            };
            let labels: Vec<_> = sample.labels.iter().map(label).collect();
            format!("{}{{{}}}", sample.name, labels.join(","))
        };
        self.samples.iter().map(series).collect()
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Scraped> {
        let matches = move |sample: &&Scraped| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(name, value)| sample.labels.get(*name).is_some_and(|v| v == value))
        };
        self.samples.iter().filter(matches)
    }
}

fn parse_line(line: &str) -> Scraped {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    Scraped {
        name: name.to_owned(),
        labels: parse_labels(labels),
        value: value.parse().expect("a number"),
    }
}

/// Parses `a="b",c="d"}`, with the three escapes of the text format.
fn parse_labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next().expect("a closing quote") {
                (at, '"') => break at + 1,
                (_, '\\') => match characters.next().expect("an escape").1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.trim_start_matches(',').to_owned(), value);
        text = &rest[end..];
    }
    labels
}
