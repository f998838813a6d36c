//! The tables that compare a sample's cost with other traffic: larger requests, longer labels, other
//! contents, more connections and more spokes. A cliff shows as a row far above the others.

use hubgate::load::shape::Extra;

use crate::measure::Figures;
use crate::peers::Peer;
use crate::subjects::Subject;
use crate::traffic::{Mix, Traffic};

/// A table whose rows differ in one respect, with a subject in each column.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) subjects: Vec<Subject>,
    /// The others are compared with this one.
    pub(crate) base: Traffic,
    pub(crate) rows: Vec<Row>,
    /// What each bounded row may cost, as a multiple of the base.
    pub(crate) times_max: Option<f64>,
}

/// A row of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) traffic: Traffic,
    pub(crate) is_bounded: bool,
}

/// The figures of a cell.
pub(crate) struct Cell {
    pub(crate) subject: Subject,
    pub(crate) figures: Figures,
}

/// Sizes and labels cost a sample at most so many times what 2,000 series cost.
const SIZES_TIMES_MAX: f64 = 1.5;

/// 8 to 500 connections.
const CONNECTIONS_TIMES_MAX: f64 = 1.6;

/// The cost does not depend on the number of spokes; this is what two measurements differ by.
const SPOKES_TIMES_MAX: f64 = 1.1;

fn bounded(traffic: Traffic) -> Row {
    Row {
        traffic,
        is_bounded: true,
    }
}

fn unbounded(traffic: Traffic) -> Row {
    Row {
        traffic,
        is_bounded: false,
    }
}

impl Table {
    /// The tables of a mix.
    pub(crate) fn all(mix: Mix, peers: &[Peer]) -> [Self; 4] {
        [
            Self::sizes(mix, peers),
            Self::contents(mix),
            Self::connections(mix),
            Self::spokes(mix),
        ]
    }

    /// Fewer and more series in a request, and longer labels. 100 series share what a request costs.
    fn sizes(mix: Mix, peers: &[Peer]) -> Self {
        let base = mix.usual();
        let mut rows = vec![unbounded(base.series(100))];
        rows.extend([500, 2_000, 10_000, 50_000].map(|series| bounded(base.series(series))));
        let label = |bytes| bounded(base.extra(Extra::LongLabel(bytes)));
        rows.extend([128, 256, 1_024].map(label));
        let mut subjects = Vec::from(Subject::works());
        subjects.extend(Subject::vmauth(peers));
        Self {
            name: "sizes",
            subjects,
            base,
            rows,
            times_max: Some(SIZES_TIMES_MAX),
        }
    }

    /// What series have beside one float sample and ASCII labels.
    fn contents(mix: Mix) -> Self {
        let base = mix.usual();
        let extras = [
            Extra::Histograms,
            Extra::Exemplars,
            Extra::StaleMarkers,
            Extra::Churn,
            Extra::NonAscii,
        ];
        let rows = std::iter::once(base).chain(extras.map(|extra| base.extra(extra)));
        Self {
            name: "contents",
            subjects: Vec::from(Subject::works()),
            base,
            rows: rows.map(unbounded).collect(),
            times_max: None,
        }
    }

    fn connections(mix: Mix) -> Self {
        let base = mix.usual();
        let mut rows = vec![unbounded(base.connections(1))];
        rows.extend([8, 50, 200, 500].map(|connections| bounded(base.connections(connections))));
        Self {
            name: "connections",
            subjects: Vec::from(Subject::works()),
            base: base.connections(8),
            rows,
            times_max: Some(CONNECTIONS_TIMES_MAX),
        }
    }

    /// The number of spokes is nothing that the work on a message knows of, so two kinds are enough.
    fn spokes(mix: Mix) -> Self {
        let base = mix.usual();
        let [unchanged_v1, _, upgraded, ..] = Subject::works();
        Self {
            name: "spokes",
            subjects: vec![unchanged_v1, upgraded],
            base,
            rows: [1, 100, 1_000]
                .map(|spokes| bounded(base.spokes(spokes)))
                .into(),
            times_max: Some(SPOKES_TIMES_MAX),
        }
    }

    /// What to measure. The rows of a subject follow each other: the speed of a machine changes over
    /// minutes.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (String, Subject)> {
        self.subjects.iter().flat_map(|subject| {
            self.rows.iter().map(|row| {
                let subject = subject.with(row.traffic);
                (format!("{}: {}", self.name, subject.row()), subject)
            })
        })
    }

    /// Whether a test measures it. It has few rows, since it runs without a release build: of each
    /// table the second row, and all contents.
    pub(crate) fn is_tested(&self, subject: &Subject) -> bool {
        let tested = match self.name {
            "contents" => &self.rows[1..],
            _ => &self.rows[1..2],
        };
        let row = tested.iter().position(|row| row.traffic == subject.traffic);
        // The rows take turns with the subjects.
        let mut turn = self.subjects.iter();
        let turn = turn.position(|other| other.column() == subject.column());
        row.is_some() && row.map(|row| row % self.subjects.len()) == turn
    }
}
