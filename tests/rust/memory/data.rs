//! Finds the reference data, and reads what it is made of: JSON, gzipped JSON Lines, arrays in an npz.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::{DeflateDecoder, GzDecoder};
use goclaw::index::vector::from_f16;
use serde::Deserialize;

/// Where the file is, or `None` after saying that the test is skipped.
///
/// The data lies beside the project, not in it; `GOCLAW_SHARED_DATA` names another folder.
pub fn find(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folders = [std::env::var_os("GOCLAW_SHARED_DATA").map(PathBuf::from), Some(beside)];
    let found = folders.into_iter().flatten().map(|folder| folder.join(name)).find(|p| p.exists());
    if found.is_none() {
        eprintln!("SKIPPED: {name} is not in ../shared/data, nor where GOCLAW_SHARED_DATA points");
    }
    found
}

/// A test collection: documents in index order, questions with the documents that answer them.
pub struct Collection {
    pub documents: Vec<String>,
    pub queries: Vec<(String, Vec<usize>)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Meta(serde::de::IgnoredAny),
    Doc { text: String },
    Query { q: String, rel: Vec<usize> },
}

pub fn collection(path: &Path) -> Collection {
    let file = File::open(path).expect("the collection can be opened");
    let mut read = Collection { documents: Vec::new(), queries: Vec::new() };
    for line in BufReader::new(GzDecoder::new(file)).lines() {
        let line = line.expect("the collection is text");
        // The first line is `meta` with what describes the collection beside it.
        let Ok(line) = serde_json::from_str(&line) else { continue };
        match line {
            Line::Meta(_) => {}
            Line::Doc { text } => read.documents.push(text),
            Line::Query { q, rel } => read.queries.push((q, rel)),
        }
    }
    read
}

/// An array of half-precision numbers in an npz (a zip of npy files), as rows.
pub fn array(path: &Path, name: &str) -> Vec<Vec<f32>> {
    let zip = std::fs::read(path).expect("the npz can be read");
    let npy = member(&zip, &format!("{name}.npy")).expect("the npz has the array");
    let header_len = usize::from(u16::from_le_bytes([npy[8], npy[9]]));
    let header = String::from_utf8_lossy(&npy[10..10 + header_len]);
    assert!(header.contains("'<f2'") && header.contains("'fortran_order': False"), "{header}");
    let (_, shape) = header.split_once("'shape': (").expect("an npy has a shape");
    let mut sizes = shape.split([',', ')']).map(|size| size.trim().parse().expect("a size"));
    let (rows, columns): (usize, usize) =
        (sizes.next().expect("rows"), sizes.next().expect("columns"));
    let mut found = vec![vec![0.0; columns]; rows];
    for (row, bytes) in found.iter_mut().zip(npy[10 + header_len..].chunks_exact(columns * 2)) {
        assert!(from_f16(bytes, row));
    }
    found
}

/// One file of a zip, found by its central directory (APPNOTE.TXT 4.3.12 and 4.3.7).
fn member(zip: &[u8], name: &str) -> Option<Vec<u8>> {
    let short = |at: usize| usize::from(u16::from_le_bytes([zip[at], zip[at + 1]]));
    let long = |at: usize| short(at) | short(at + 2) << 16;
    let end = zip.windows(4).rposition(|window| window == b"PK\x05\x06")?;
    let mut entry = long(end + 16);
    for _ in 0..short(end + 10) {
        let (packed, local) = (long(entry + 20), long(entry + 42));
        let name_end = entry + 46 + short(entry + 28);
        if &zip[entry + 46..name_end] == name.as_bytes() {
            let from = local + 30 + short(local + 26) + short(local + 28);
            let bytes = &zip[from..from + packed];
            let mut found = Vec::new();
            match short(entry + 10) {
                0 => found.extend(bytes),
                _ => _ = DeflateDecoder::new(bytes).read_to_end(&mut found).ok()?,
            }
            return Some(found);
        }
        entry = name_end + short(entry + 30) + short(entry + 32);
    }
    None
}
