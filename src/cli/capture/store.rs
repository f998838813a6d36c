//! Where captured requests go: to files that their owner alone may read, or to stdout.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use bytesize::ByteSize;

use super::events::{Request, time};
use crate::printable::clean;

/// Where requests go.
pub(super) struct Store<'s> {
    /// `None` for stdout.
    folder: Option<&'s Path>,
    pub(super) stored: u64,
    /// Why something of them was refused.
    pub(super) reasons: BTreeSet<String>,
}

impl<'s> Store<'s> {
    pub(super) fn new(out: &'s Path) -> anyhow::Result<Self> {
        let folder = (out != Path::new("-")).then_some(out);
        if let Some(folder) = folder {
            ensure!(folder.is_dir(), "{} is no folder", folder.display());
        }
        Ok(Self {
            folder,
            stored: 0,
            reasons: BTreeSet::new(),
        })
    }

    /// Stores a request, and says where.
    pub(super) fn add(&mut self, request: &Request, line: &[u8]) -> io::Result<()> {
        let place = match self.folder {
            None => {
                let mut out = io::stdout().lock();
                out.write_all(line)?;
                out.write_all(b"\n")?;
                out.flush()?;
                None
            }
            Some(folder) => Some(write_file(folder, request, line)?),
        };
        self.stored += 1;
        self.reasons.extend(request.reasons.iter().cloned());
        if let Some(place) = place {
            let none = "-".to_owned();
            let or_none = |text: &Option<String>| text.as_deref().map_or(none.clone(), clean);
            let mut out = io::stdout().lock();
            writeln!(
                out,
                "{}  {} {}  {}, {}  {}  {}",
                place.display(),
                request.status,
                clean(&request.reasons.join(",")),
                or_none(&request.protocol),
                ByteSize(request.body_bytes),
                clean(&request.source_address),
                or_none(&request.user_agent),
            )?;
            out.flush()?;
        }
        Ok(())
    }
}

/// Writes a line to a new file, which only its owner may read.
fn write_file(folder: &Path, request: &Request, line: &[u8]) -> io::Result<PathBuf> {
    let safe = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let spoke = request.spoke.replace(|letter| !safe(letter), "_");
    let time = humantime::format_rfc3339_millis(time(request.timestamp_seconds)).to_string();
    let time = time.replace([':', '-'], "");
    for number in 0..=u16::MAX {
        let number = match number {
            0 => String::new(),
            more => format!("-{more}"),
        };
        let path = folder.join(format!("hubgate-{spoke}-{time}{number}.json"));
        let mut options = OpenOptions::new();
        // A file, or a link, of this name may be somebody else's.
        options.write(true).create_new(true).mode(0o600);
        match options.open(&path) {
            Ok(mut file) => {
                let written = file.write_all(line).and_then(|()| file.write_all(b"\n"));
                if let Err(error) = written {
                    // A part of a request would be taken for one that is malformed.
                    let _ = fs::remove_file(&path);
                    return Err(of_file(&path, &error));
                }
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(of_file(&path, &error)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn of_file(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
