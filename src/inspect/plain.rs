//! A body as text, in the notation of PromQL. What is not data stands behind `#`.

use std::io::{self, Write};

use crate::telemetry::words;
use crate::wire::METRIC_NAME;

use super::elsewhere::ElsewhereView;
use super::histogram::HistogramView;
use super::shown::Time;
use super::summary::{End, RefusalView, VerdictView};
use super::view::{
    Action, DecisionView, Head, Judged, LabelView, MetadataView, OpenedView, RefusedView,
    SeriesView,
};
use super::{Counted, Printer};

/// Prints to a terminal or a pipe.
pub(super) struct Plain<W>(pub(super) Counted<W>);

impl<W: Write> Printer for Plain<W> {
    fn head(&mut self, head: &Head<'_>) -> io::Result<()> {
        for line in head.captured.iter().flat_map(|it| it.lines()) {
            writeln!(self.0, "# {line}")?;
        }
        let body_bytes = head.body_bytes;
        let Some(opened) = &head.opened else {
            return writeln!(self.0, "# {body_bytes} bytes");
        };
        let OpenedView {
            encoding,
            decoded_bytes,
            protocol,
            message,
        } = opened;
        writeln!(
            self.0,
            "# {protocol} ({message}), encoding {encoding}: {body_bytes} bytes, {decoded_bytes} decoded"
        )
    }

    fn series(&mut self, series: &SeriesView<'_>) -> io::Result<()> {
        self.labels(&series.labels, series.more_labels)?;
        match (&series.decision, series.fault) {
            (Some(decision), _) => self.decision(decision)?,
            (None, Some(fault)) => write!(self.0, "  # faulty: {fault}")?,
            (None, None) => {}
        }
        writeln!(self.0)?;
        for sample in &series.samples {
            write!(self.0, "  {}", sample.item.value)?;
            self.times(sample.item.timestamp, sample.item.start_timestamp)?;
            self.refused(sample.refused.as_ref())?;
        }
        for histogram in &series.histograms {
            self.histogram(&histogram.item)?;
            self.times(histogram.item.timestamp, histogram.item.start_timestamp)?;
            self.refused(histogram.refused.as_ref())?;
        }
        if series.long_histograms > 0 {
            let (count, what) = (series.long_histograms, "too long to be shown");
            writeln!(self.0, "  # and histograms that are {what}: {count}")?;
        }
        for exemplar in &series.exemplars {
            write!(self.0, "  exemplar ")?;
            self.labels(&exemplar.item.labels, exemplar.item.more_labels)?;
            write!(self.0, " {}", exemplar.item.value)?;
            self.times(exemplar.item.timestamp, None)?;
            self.refused(exemplar.refused.as_ref())?;
        }
        if series.more_items > 0 {
            writeln!(self.0, "  # and {} more", series.more_items)?;
        }
        let says = |it: &&Judged<MetadataView<'_>>| it.refused.is_some() || !it.item.is_empty();
        if let Some(metadata) = series.metadata.as_ref().filter(says) {
            write!(self.0, "  ")?;
            self.metadata(metadata)?;
        }
        Ok(())
    }

    fn metadata(&mut self, metadata: &Judged<MetadataView<'_>>) -> io::Result<()> {
        let MetadataView {
            family,
            metric_type,
            unit,
            help,
        } = &metadata.item;
        write!(self.0, "metadata")?;
        if let Some(family) = family {
            write!(self.0, " of {family}")?;
        }
        write!(self.0, ": {metric_type}")?;
        for (what, text) in [("unit", unit), ("help", help)] {
            if !text.0.is_empty() {
                write!(self.0, ", {what} {text}")?;
            }
        }
        self.refused(metadata.refused.as_ref())
    }

    fn end(&mut self, end: &End) -> io::Result<()> {
        if end.cut {
            let advice = "if all of it came, capture it with a larger --body-bytes";
            writeln!(self.0, "# the body is cut, so it cannot be read; {advice}")?;
        } else if end.refusal.is_none() || end.series + end.metadata > 0 {
            self.counts(end)?;
        }
        if end.foreign_fields {
            let fate = "they never travel on";
            writeln!(
                self.0,
                "# there are fields that the message does not define; {fate}"
            )?;
        }
        if end.truncated {
            writeln!(self.0, "# the output ends here, since it became too long")?;
        }
        if let Some(RefusalView {
            status,
            reason,
            text,
            hint,
        }) = &end.refusal
        {
            writeln!(self.0, "# refused: {reason}: {text}")?;
            if let Some(hint) = hint {
                writeln!(self.0, "# {hint}")?;
            }
            writeln!(self.0, "# response: {status}")?;
        }
        if let Some(verdict) = &end.verdict {
            self.verdict(verdict, end.series)?;
        }
        for ElsewhereView { reason, decided_by } in &end.refused_elsewhere {
            write!(
                self.0,
                "# when it was captured, it was refused for {reason}"
            )?;
            match decided_by {
                None => writeln!(self.0, ", as the configuration of now does not")?,
                Some(by) if end.is_accepted() => writeln!(
                    self.0,
                    ": {by} decided that, not the body, which would be accepted"
                )?,
                Some(by) => writeln!(self.0, ": {by} decided that, not the body")?,
            }
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.0.bytes
    }
}

impl<W: Write> Plain<W> {
    fn counts(&mut self, end: &End) -> io::Result<()> {
        write!(
            self.0,
            "# {} series: {}, {}, {}, {} metadata",
            end.series,
            words::count(end.samples, "sample"),
            words::count(end.histograms, "histogram"),
            words::count(end.exemplars, "exemplar"),
            end.metadata
        )?;
        if let Some((oldest, newest)) = end.oldest.zip(end.newest) {
            write!(self.0, "; from {oldest} to {newest}")?;
        }
        writeln!(self.0)
    }

    fn labels(&mut self, labels: &[LabelView<'_>], more: bool) -> io::Result<()> {
        let is_name = |label: &LabelView<'_>| label.name.0 == METRIC_NAME;
        // A second one is shown as it lies.
        let mut names = labels.iter().filter(|label| is_name(label));
        let name = match (names.next(), names.next()) {
            (Some(name), None) if is_plain(name.value.0, b":") => Some(name.value),
            _ => None,
        };
        if let Some(name) = name {
            write!(self.0, "{}", name.bare())?;
        }
        write!(self.0, "{{")?;
        let others = labels.iter().filter(|it| name.is_none() || !is_name(it));
        for (index, label) in others.enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(self.0, "{comma}")?;
            self.label(label)?;
        }
        let end = if more { ",...}" } else { "}" };
        write!(self.0, "{end}")
    }

    fn label(&mut self, LabelView { name, value }: &LabelView<'_>) -> io::Result<()> {
        if is_plain(name.0, b"") {
            write!(self.0, "{}={value}", name.bare())
        } else {
            write!(self.0, "{name}={value}")
        }
    }

    fn decision(&mut self, decision: &DecisionView<'_>) -> io::Result<()> {
        match decision.action {
            Action::Pass => write!(self.0, "  # passes")?,
            Action::Change => {
                write!(self.0, "  # passes, changed: ")?;
                let changes = [
                    ("with ", &decision.set_labels),
                    ("without ", &decision.removed_labels),
                ];
                let mut separator = "";
                for (word, labels) in changes.into_iter().filter(|(_, it)| !it.is_empty()) {
                    write!(self.0, "{separator}{word}")?;
                    for (index, label) in labels.iter().enumerate() {
                        write!(self.0, "{}", if index == 0 { "" } else { "," })?;
                        self.label(label)?;
                    }
                    separator = ", ";
                }
                if separator.is_empty() {
                    write!(self.0, "labels in order, no foreign fields")?;
                }
                if decision.more_labels {
                    write!(self.0, ",...")?;
                }
            }
            Action::Refuse => {
                write!(self.0, "  # refused")?;
                for text in [decision.reason, decision.advice].into_iter().flatten() {
                    write!(self.0, ": {text}")?;
                }
            }
        }
        let observed = decision.observed.into_iter();
        for reason in observed.chain(decision.exceeded.iter().copied()) {
            write!(self.0, "; {reason}")?;
        }
        Ok(())
    }

    fn histogram(&mut self, histogram: &HistogramView) -> io::Result<()> {
        let HistogramView {
            schema, count, sum, ..
        } = histogram;
        write!(self.0, "  {{schema:{schema}, count:{count}, sum:{sum}")?;
        for bucket in &histogram.buckets {
            let open = if bucket.lower_closed { '[' } else { '(' };
            let close = if bucket.upper_closed { ']' } else { ')' };
            let (lower, upper, count) = (bucket.lower, bucket.upper, bucket.count);
            write!(self.0, ", {open}{lower},{upper}{close}:{count}")?;
        }
        if let Some(more) = histogram.more_buckets {
            write!(self.0, ", {more} more buckets")?;
        }
        write!(self.0, "}}")?;
        match histogram.reset_hint {
            "unknown" => Ok(()),
            hint => write!(self.0, " reset {hint}"),
        }
    }

    fn times(&mut self, time: Time, start: Option<Time>) -> io::Result<()> {
        write!(self.0, " @ {time}")?;
        start.map_or(Ok(()), |start| write!(self.0, " created {start}"))
    }

    /// Ends the line of a sample.
    fn refused(&mut self, refused: Option<&RefusedView>) -> io::Result<()> {
        if let Some(RefusedView {
            reason,
            details,
            advice,
        }) = refused
        {
            write!(self.0, "  # refused: {reason}: {details}: {advice}")?;
        }
        writeln!(self.0)
    }

    fn verdict(&mut self, verdict: &VerdictView, series: u64) -> io::Result<()> {
        let VerdictView {
            spoke,
            passing_series,
            passing_metadata,
            refused,
            exceeded,
            response,
        } = verdict;
        write!(
            self.0,
            "# spoke {spoke}: {passing_series} of {series} series pass"
        )?;
        if *passing_metadata > 0 {
            write!(self.0, ", {passing_metadata} metadata")?;
        }
        writeln!(self.0)?;
        for it in refused {
            let (reason, count, advice, example) = (it.reason, it.count, it.advice, &it.example);
            writeln!(
                self.0,
                "# refused: {reason}: {count}: {advice}; e.g. {example}"
            )?;
        }
        for it in exceeded {
            let (limit, count) = (it.limit, it.count);
            writeln!(self.0, "# observed: limits.{limit} is exceeded by {count}")?;
        }
        let status = response.status;
        writeln!(
            self.0,
            "# response, if the hubs take all that passes: {status}"
        )?;
        for line in response.text.lines() {
            writeln!(self.0, "# {line}")?;
        }
        Ok(())
    }
}

/// True for a name that needs no quotes; that of a metric may have a colon.
fn is_plain(name: &[u8], others: &[u8]) -> bool {
    let first = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_' || others.contains(byte);
    let any = |byte: &u8| first(byte) || byte.is_ascii_digit();
    name.first().is_some_and(first) && name.iter().all(any)
}
