//! One session's file, open: frames are appended and synced, a compaction rewrites it.
//!
//! A crash can cut the last frame short and nothing else, for each frame is synced before the next is
//! written: such a frame was never promised and is cut off. Anything else that does not fit is damage, and refused. A
//! compaction writes a new file beside the old one and renames it; one that was left half-way is thrown away.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::layout::{self, Blob, FRONT, PREFIX, Reader};
use crate::model::EntryId;
use crate::tier::cold::{Cold, Found, Tag};

/// Bytes of a frame, about.
const FRAME: usize = 8 << 20;
/// Garbage that is not worth a compaction, in bytes.
const GARBAGE_MIN: u64 = 64 << 10;

/// Where a blob lies.
#[derive(Clone, Copy)]
struct Place {
    at: u64,
    len: u32,
}

pub(super) struct Log {
    path: PathBuf,
    session: String,
    file: File,
    end: u64,
    live: BTreeMap<EntryId, Place>,
    live_bytes: u64,
}

fn damaged(what: &str, at: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("its file is damaged: {what} at byte {at}"))
}

/// Makes a rename or removal last.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Removes a session's file, if there is one.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    for path in [path, &path.with_extension("new")] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_folder(path)
}

impl Log {
    /// Opens a session's file; `None` where there is none and none shall be made.
    pub(super) fn open(path: &Path, session: &str, make: bool) -> io::Result<Option<Self>> {
        match fs::remove_file(path.with_extension("new")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::options().read(true).write(true).create(make).truncate(false).open(path);
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut log = Self {
            path: path.to_owned(),
            session: session.to_owned(),
            file,
            end: 0,
            live: BTreeMap::new(),
            live_bytes: 0,
        };
        log.replay()?;
        if log.end == 0 {
            log.append(&layout::frame(layout::HEAD, session.as_bytes()))?;
            sync_folder(path)?;
        }
        Ok(Some(log))
    }

    pub(super) fn len(&self) -> u64 {
        self.live.len() as u64
    }

    /// Reads the whole file; cuts off a last frame that a crash cut short.
    fn replay(&mut self) -> io::Result<()> {
        let size = self.file.metadata()?.len();
        let mut reader = BufReader::with_capacity(1 << 20, self.file.try_clone()?);
        let mut body = Vec::new();
        while size - self.end >= FRONT as u64 {
            let rest = size - self.end;
            let mut front = [0; FRONT];
            reader.read_exact(&mut front)?;
            let Some((len, crc)) = layout::front(&front) else {
                // Room that was made and never written to.
                if front == [0; FRONT] && reader.bytes().all(|byte| matches!(byte, Ok(0))) {
                    break;
                }
                return Err(damaged("a frame's length", self.end));
            };
            let whole = FRONT as u64 + len as u64;
            if whole > rest {
                break;
            }
            body.resize(len, 0);
            reader.read_exact(&mut body)?;
            if crc32fast::hash(&body) != crc {
                if whole == rest {
                    break;
                }
                return Err(damaged("a frame", self.end));
            }
            self.take(&body)?;
            self.end += whole;
        }
        if self.end < size {
            self.file.set_len(self.end)?;
            self.file.sync_all()?;
        }
        Ok(())
    }

    /// Follows the frame whose body begins behind `end`.
    fn take(&mut self, body: &[u8]) -> io::Result<()> {
        let at = self.end;
        let broken = |what: &str| damaged(what, at);
        let (kind, payload) = body.split_first().ok_or_else(|| broken("an empty frame"))?;
        let mut reader = Reader(payload);
        match *kind {
            layout::HEAD if payload == self.session.as_bytes() && at == 0 => {}
            layout::PUT if at > 0 => {
                let start = at + FRONT as u64 + 1;
                while !reader.0.is_empty() {
                    let blob_at = start + (payload.len() - reader.0.len() + PREFIX) as u64;
                    let (len, _) = layout::prefix(reader.0).ok_or_else(|| broken("a memory"))?;
                    reader.take(PREFIX).ok_or_else(|| broken("a memory"))?;
                    let bytes = reader.take(len).ok_or_else(|| broken("a memory"))?;
                    let blob = Blob::read(bytes).ok_or_else(|| broken("a memory"))?;
                    self.note(blob.id, Some(Place { at: blob_at, len: len as u32 }));
                }
            }
            layout::DELETE if at > 0 => {
                while let Some(id) = reader.take(16).and_then(|id| id.try_into().ok()) {
                    self.note(EntryId::from_u128(u128::from_be_bytes(id)), None);
                }
            }
            _ => return Err(broken("a frame that is not of this session")),
        }
        Ok(())
    }

    fn note(&mut self, id: EntryId, place: Option<Place>) {
        let weight = |place: Place| u64::from(place.len) + PREFIX as u64;
        let before = match place {
            Some(place) => {
                self.live_bytes += weight(place);
                self.live.insert(id, place)
            }
            None => self.live.remove(&id),
        };
        self.live_bytes -= before.map_or(0, weight);
    }

    /// Writes a frame where the last one ended; returns when it lasts.
    fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(frame)?;
        self.file.sync_data()?;
        let body = frame.get(FRONT..).unwrap_or_default();
        self.take(body)?;
        self.end += frame.len() as u64;
        Ok(())
    }

    pub(super) fn put(&mut self, batch: &[Cold]) -> io::Result<()> {
        let mut payload = Vec::new();
        for (at, cold) in batch.iter().enumerate() {
            layout::prefixed(&layout::write_blob(cold), &mut payload);
            if payload.len() >= FRAME || at + 1 == batch.len() {
                self.append(&layout::frame(layout::PUT, &payload))?;
                payload.clear();
            }
        }
        self.compact_if_worth()
    }

    pub(super) fn delete(&mut self, ids: &[EntryId]) -> io::Result<()> {
        let there = ids.iter().filter(|id| self.live.contains_key(id));
        let payload: Vec<u8> = there.flat_map(|id| id.to_bytes()).collect();
        if payload.is_empty() {
            return Ok(());
        }
        self.append(&layout::frame(layout::DELETE, &payload))?;
        self.compact_if_worth()
    }

    /// Calls with the blobs of these places, front to back.
    fn each(
        &self,
        mut places: Vec<Place>,
        mut call: impl FnMut(&[u8], Blob<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        places.sort_unstable_by_key(|place| place.at);
        let mut reader = BufReader::with_capacity(256 << 10, &self.file);
        let mut position = reader.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        for place in places {
            // Blobs lie in order and apart, so this goes forward only.
            let from = place.at - PREFIX as u64;
            reader.seek_relative((from - position) as i64)?;
            bytes.resize(PREFIX + place.len as usize, 0);
            reader.read_exact(&mut bytes)?;
            position = place.at + u64::from(place.len);
            let (front, blob) = bytes.split_at(PREFIX);
            let whole = layout::prefix(front).is_some_and(|(_, crc)| crc == crc32fast::hash(blob));
            let read = Blob::read(blob).filter(|_| whole);
            call(blob, read.ok_or_else(|| damaged("a memory", place.at))?)?;
        }
        Ok(())
    }

    pub(super) fn fetch(&self, ids: &[EntryId]) -> io::Result<Vec<Cold>> {
        let mut places: Vec<Place> = Vec::new();
        let mut wanted = ids.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        places.extend(wanted.iter().filter_map(|id| self.live.get(id)));
        let mut found = Vec::with_capacity(places.len());
        self.each(places, |_, blob| {
            found.push(blob.cold().ok_or_else(|| damaged("a memory", 0))?);
            Ok(())
        })?;
        Ok(found)
    }

    pub(super) fn search(
        &self,
        query: &[f32],
        tags: &[Tag],
        top_k: usize,
    ) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        self.each(self.live.values().copied().collect(), |_, blob| {
            let vector = blob.vector();
            let shows = tags.iter().all(|tag| blob.tags().any(|own| own == *tag));
            if shows && vector.dimension() == query.len() {
                found.push(Found { id: blob.id, cosine: cosine(query, vector.parts()) });
            }
            Ok(())
        })?;
        found.sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.id.cmp(&b.id)));
        found.truncate(top_k);
        Ok(found)
    }

    fn compact_if_worth(&mut self) -> io::Result<()> {
        let garbage = self.end.saturating_sub(self.live_bytes);
        if garbage < GARBAGE_MIN.max(self.live_bytes) {
            return Ok(());
        }
        let new = self.path.with_extension("new");
        let file = File::options().read(true).write(true).create_new(true).open(&new)?;
        let mut other = Self {
            path: new.clone(),
            session: self.session.clone(),
            file,
            end: 0,
            live: BTreeMap::new(),
            live_bytes: 0,
        };
        other.append(&layout::frame(layout::HEAD, self.session.as_bytes()))?;
        let mut payload = Vec::new();
        self.each(self.live.values().copied().collect(), |bytes, _| {
            layout::prefixed(bytes, &mut payload);
            if payload.len() >= FRAME {
                other.append(&layout::frame(layout::PUT, &payload))?;
                payload.clear();
            }
            Ok(())
        })?;
        if !payload.is_empty() {
            other.append(&layout::frame(layout::PUT, &payload))?;
        }
        fs::rename(&new, &self.path)?;
        sync_folder(&self.path)?;
        other.path.clone_from(&self.path);
        *self = other;
        Ok(())
    }
}

fn cosine(query: &[f32], parts: impl Iterator<Item = f32>) -> f32 {
    let (mut dot, mut own, mut other) = (0.0, 0.0, 0.0);
    for (a, b) in query.iter().zip(parts) {
        let (a, b) = (f64::from(*a), f64::from(b));
        dot += a * b;
        own += a * a;
        other += b * b;
    }
    let length = f64::sqrt(own * other);
    if length > 0.0 { (dot / length) as f32 } else { 0.0 }
}
