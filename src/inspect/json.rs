//! A body as one JSON object. It is printed piece by piece, since a body may be large.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;

use crate::printable::Safe;

use super::summary::End;
use super::view::{Head, Judged, MetadataView, SeriesView};
use super::{Counted, Printer};

/// Prints the object: `body`, `series`, `metadata` and `summary`.
pub(super) struct Json<W> {
    out: Counted<W>,
    /// The list that is open.
    list: List,
    /// The list has an element.
    begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Series,
    Metadata,
}

impl<W: Write> Printer for Json<W> {
    fn head(&mut self, head: &Head<'_>) -> io::Result<()> {
        write!(self.out, "{{\"body\":")?;
        self.value(head)?;
        write!(self.out, ",\n\"series\":[")
    }

    fn series(&mut self, series: &SeriesView<'_>) -> io::Result<()> {
        self.element(series)
    }

    fn metadata(&mut self, metadata: &Judged<MetadataView<'_>>) -> io::Result<()> {
        self.begin_metadata()?;
        self.element(metadata)
    }

    fn end(&mut self, end: &End) -> io::Result<()> {
        self.begin_metadata()?;
        write!(self.out, "],\n\"summary\":")?;
        self.value(end)?;
        writeln!(self.out, "}}")
    }

    fn bytes(&self) -> u64 {
        self.out.bytes
    }
}

impl<W: Write> Json<W> {
    pub(super) fn new(out: Counted<W>) -> Self {
        Self {
            out,
            list: List::Series,
            begun: false,
        }
    }

    fn begin_metadata(&mut self) -> io::Result<()> {
        if self.list == List::Series {
            (self.list, self.begun) = (List::Metadata, false);
            write!(self.out, "],\n\"metadata\":[")?;
        }
        Ok(())
    }

    fn element(&mut self, value: &impl Serialize) -> io::Result<()> {
        let separator = if self.begun { ",\n" } else { "\n" };
        self.begun = true;
        write!(self.out, "{separator}")?;
        self.value(value)
    }

    fn value(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut serializer = Serializer::with_formatter(&mut self.out, Safe);
        value.serialize(&mut serializer).map_err(io::Error::from)
    }
}
