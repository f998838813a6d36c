//! The formats of the metrics page, and which of them a scraper asks for.

use http::HeaderMap;
use http::header::ACCEPT;

/// A format of the metrics page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageFormat {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus.
    Text,
}

impl PageFormat {
    /// The best format that the Accept header takes (RFC 9110, section 12.5.1). It is OpenMetrics
    /// only where that is named, and text where nothing is acceptable, since a page is worth more
    /// than a 406.
    pub fn negotiate(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter();
        let values = values.filter_map(|value| value.to_str().ok());
        let (mut open_metrics, mut text) = (0.0, (0, 0.0));
        for range in values.flat_map(|value| value.split(',')) {
            let Some(range) = Range::parse(range) else {
                continue;
            };
            let named = |name: &str| range.media_type.eq_ignore_ascii_case(name);
            let version = |ours| range.version.is_none_or(|version| version == ours);
            if named("application/openmetrics-text") && version("1.0.0") {
                open_metrics = range.quality.max(open_metrics);
            }
            let precision = if named("text/plain") && version("0.0.4") {
                3
            } else if named("text/*") {
                2
            } else if named("*/*") {
                1
            } else {
                continue;
            };
            // The most precise range decides, whatever its quality is.
            if (precision, range.quality) > text {
                text = (precision, range.quality);
            }
        }
        if open_metrics > 0.0 && open_metrics >= text.1 {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// The Content-Type of a page.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// One element of an Accept header.
struct Range<'a> {
    media_type: &'a str,
    version: Option<&'a str>,
    quality: f32,
}

impl<'a> Range<'a> {
    /// Reads an element; `None` when its quality is not a number from 0 to 1.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self {
            media_type: parts.next()?,
            version: None,
            quality: 1.0,
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            if name.eq_ignore_ascii_case("q") {
                let quality = value.parse().ok();
                range.quality = quality.filter(|quality| (0.0..=1.0).contains(quality))?;
            } else if name.eq_ignore_ascii_case("version") {
                range.version = Some(value.trim_matches('"'));
            }
        }
        Some(range)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_accept_header_decides() {
        use PageFormat::{OpenMetrics, Text};
        for (accept, expected) in [
            // Prometheus 2.42, 3.12 with and without protobuf, and a scraper that knows 0.0.4 alone.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                 version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                 text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                OpenMetrics,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                 encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            ("text/plain;version=0.0.4;q=1,*/*;q=0.1", Text),
            ("*/*", Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Text),
            ("application/openmetrics-text", OpenMetrics),
            (
                "Application/OpenMetrics-Text ; Version=\"1.0.0\"",
                OpenMetrics,
            ),
            ("application/openmetrics-text;version=0.0.1", Text),
            ("application/openmetrics-text;version=2.0.0", Text),
            ("text/plain, application/openmetrics-text", OpenMetrics),
            ("text/plain, application/openmetrics-text;q=0.9", Text),
            (
                "text/plain;version=1.0.0, application/openmetrics-text;q=0.9",
                OpenMetrics,
            ),
            ("*/*, application/openmetrics-text;q=0.9", Text),
            (
                "*/*, text/plain;q=0.5, application/openmetrics-text;q=0.9",
                OpenMetrics,
            ),
            (
                "text/plain;q=0.5, */*, application/openmetrics-text;q=0.9",
                OpenMetrics,
            ),
            (
                "text/*;q=0.8, */*, application/openmetrics-text;q=0.9",
                OpenMetrics,
            ),
            ("application/openmetrics-text;q=0", Text),
            ("application/openmetrics-text;q=0, */*;q=0", Text),
            ("application/openmetrics-text;q=best", Text),
            ("application/openmetrics-text;q=NaN", Text),
            ("application/openmetrics-text;q=2, text/plain;q=0.5", Text),
            (
                "text/plain;q=0.1, text/plain;q=1, application/openmetrics-text;q=0.5",
                Text,
            ),
            ("application/*", Text),
            ("application/json", Text),
            ("", Text),
            (",;,=;q=", Text),
        ] {
            let header = (ACCEPT, HeaderValue::from_static(accept));
            let format = PageFormat::negotiate(&HeaderMap::from_iter([header]));
            assert_eq!(format, expected, "{accept}");
        }
        assert_eq!(PageFormat::negotiate(&HeaderMap::new()), Text);
    }

    #[test]
    fn several_accept_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        for value in ["text/plain;q=0.5", "application/openmetrics-text"] {
            headers.append(ACCEPT, HeaderValue::from_static(value));
        }
        assert_eq!(PageFormat::negotiate(&headers), PageFormat::OpenMetrics);
    }
}
