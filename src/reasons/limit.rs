//! The limits of a spoke.

/// A limit of a spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The series that are active, over all its requests.
    ActiveSeries,
    /// What its requests hold of the budget.
    BytesInFlight,
    /// The length of a label name or value.
    LabelValueBytes,
    /// The labels of a series.
    LabelsPerSeries,
    /// The requests that are under way.
    RequestsInFlight,
    /// How old a sample is.
    SamplesAge,
    /// How far ahead a sample is.
    SamplesAhead,
    /// The samples of all its requests together, by time.
    SamplesPerSecond,
    /// The series of a request.
    SeriesPerRequest,
}

impl Limit {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 9] = [
        Self::ActiveSeries,
        Self::BytesInFlight,
        Self::LabelValueBytes,
        Self::LabelsPerSeries,
        Self::RequestsInFlight,
        Self::SamplesAge,
        Self::SamplesAhead,
        Self::SamplesPerSecond,
        Self::SeriesPerRequest,
    ];

    /// Its key in the configuration, and the value of the label `limit` of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::ActiveSeries => "active_series_max",
            Self::BytesInFlight => "bytes_in_flight_max",
            Self::LabelValueBytes => "label_value_bytes_max",
            Self::LabelsPerSeries => "labels_per_series_max",
            Self::RequestsInFlight => "requests_in_flight_max",
            Self::SamplesAge => "samples_age_max",
            Self::SamplesAhead => "samples_ahead_max",
            Self::SamplesPerSecond => "samples_per_second",
            Self::SeriesPerRequest => "series_per_request_max",
        }
    }
}
