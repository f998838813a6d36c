//! What is sent to a subject: bodies, over connections, by spokes.

use hubgate::load::shape::Extra;
use serde::{Deserialize, Serialize};

/// What a load is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) body: Body,
    /// Connections; `None` is the number of the command line.
    pub(crate) connections: Option<usize>,
    /// Spokes that the gate knows. The connections are spread over them.
    pub(crate) spokes: usize,
}

/// What the requests of a load are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Body {
    pub(crate) mix: Mix,
    /// Series of a request.
    pub(crate) series: u32,
    /// What they have beside one float sample.
    pub(crate) extra: Option<Extra>,
}

/// Where the series of a load come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mix {
    /// Made: short labels, the same number for each series.
    Uniform,
    /// Made as the Prometheus of a cluster sends them.
    Cluster,
    /// Sent by the Prometheus of a cluster.
    Captured,
}

/// Several connections can hold so many series at once in the bytes that hubgate may hold. An upgrade
/// of 50,000 takes more than half of them.
const SERIES_OF_SEVERAL_CONNECTIONS_MAX: u32 = 10_000;

impl Mix {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Cluster => "cluster",
            Self::Captured => "captured",
        }
    }

    /// Its bodies of the usual size, over the usual connections of one spoke.
    pub(crate) fn usual(self) -> Traffic {
        Traffic {
            body: Body {
                mix: self,
                series: 2_000,
                extra: None,
            },
            connections: None,
            spokes: 1,
        }
    }
}

impl Body {
    /// Float samples and native histograms of a request.
    pub(crate) fn samples(self) -> u64 {
        let of_a_series = match self.extra {
            Some(Extra::Samples(count)) => count,
            _ => 1,
        };
        u64::from(self.series) * of_a_series as u64
    }

    pub(crate) fn name(self) -> String {
        let extra = match self.extra {
            None => String::new(),
            Some(Extra::Churn) => ", a tenth of the pods new".to_owned(),
            Some(Extra::Exemplars) => ", a tenth with exemplars".to_owned(),
            Some(Extra::Histograms) => ", a tenth native histograms".to_owned(),
            Some(Extra::LongLabel(bytes)) => format!(" with a label of {bytes} bytes"),
            Some(Extra::NonAscii) => " with a label beyond ASCII".to_owned(),
            Some(Extra::Samples(count)) => format!(" of {count} samples"),
            Some(Extra::StaleMarkers) => ", a tenth stale markers".to_owned(),
        };
        format!("{}, {} series{extra}", self.mix.name(), self.series)
    }
}

impl Traffic {
    pub(crate) fn series(self, series: u32) -> Self {
        let body = Body {
            series,
            ..self.body
        };
        Self { body, ..self }
    }

    pub(crate) fn extra(self, extra: Extra) -> Self {
        let extra = Some(extra);
        let body = Body { extra, ..self.body };
        Self { body, ..self }
    }

    pub(crate) fn connections(self, connections: usize) -> Self {
        let connections = Some(connections);
        Self {
            connections,
            ..self
        }
    }

    pub(crate) fn spokes(self, spokes: usize) -> Self {
        Self { spokes, ..self }
    }

    /// Its connections, where `usual` ones are asked for.
    pub(crate) fn connections_or(self, usual: usize) -> usize {
        let large = self.body.series > SERIES_OF_SEVERAL_CONNECTIONS_MAX;
        self.connections.unwrap_or(if large { 1 } else { usual })
    }

    pub(crate) fn name(self) -> String {
        let connections = match self.connections {
            None => String::new(),
            Some(1) => ", 1 connection".to_owned(),
            Some(connections) => format!(", {connections} connections"),
        };
        let spokes = match self.spokes {
            1 => String::new(),
            spokes => format!(", {spokes} spokes"),
        };
        format!("{}{connections}{spokes}", self.body.name())
    }
}
