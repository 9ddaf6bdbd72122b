use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// Returns the last `lines` lines of a log, or nothing if it can't be read.
#[must_use]
pub fn last_lines(log: &Path, lines: usize) -> String {
    let text = tail(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut last: Vec<&str> = text.trim_end().lines().rev().take(lines).collect();
    last.reverse();
    last.join("\n")
}

fn tail(log: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

const TAIL_BYTES: u64 = 16 * 1024;
