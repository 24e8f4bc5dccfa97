//! Parts of an index, one for each session, and where every entry is.

use std::sync::Arc;

use hashbrown::HashMap;

use super::Key;

/// Number of a session within an index, for as long as it has entries.
pub type PartId = u32;

/// Where an entry is: its session, and its number in there, or whatever says where in there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<At = u32> {
    pub part: PartId,
    pub row: At,
}

pub struct Parts<T, At = u32> {
    by_name: HashMap<Arc<str>, PartId>,
    parts: Vec<Option<(Arc<str>, T)>>,
    free: Vec<PartId>,
    places: HashMap<Key, Place<At>>,
}

impl<T, At> Default for Parts<T, At> {
    fn default() -> Self {
        Self {
            by_name: HashMap::new(),
            parts: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
        }
    }
}

impl<T, At: Copy> Parts<T, At> {
    pub fn find(&self, session: &str) -> Option<PartId> {
        self.by_name.get(session).copied()
    }

    /// The parts of these sessions, each once. Names are exact; a session without entries has no part.
    pub fn find_all(&self, sessions: &[&str]) -> Vec<PartId> {
        let mut found: Vec<_> = sessions.iter().filter_map(|name| self.find(name)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    pub fn get(&self, part: PartId) -> &T {
        let part = self.parts[part as usize].as_ref();
        &part.expect("numbers of parts are taken from this table").1
    }

    pub fn get_mut(&mut self, part: PartId) -> &mut T {
        let part = self.parts[part as usize].as_mut();
        &mut part.expect("numbers of parts are taken from this table").1
    }

    pub fn find_or_insert(&mut self, session: &str, make: impl FnOnce() -> T) -> PartId {
        if let Some(part) = self.find(session) {
            return part;
        }
        let name: Arc<str> = session.into();
        let part = self.free.pop().unwrap_or_else(|| {
            self.parts.push(None);
            PartId::try_from(self.parts.len() - 1).expect("memory ends before four billion parts")
        });
        self.parts[part as usize] = Some((name.clone(), make()));
        self.by_name.insert(name, part);
        part
    }

    /// Takes a part out. The places of its entries are the caller's to take out.
    pub fn remove(&mut self, part: PartId) -> Option<T> {
        let (name, part_was) = self.parts[part as usize].take()?;
        self.by_name.remove(&name);
        self.free.push(part);
        if self.by_name.is_empty() {
            *self = Self { places: std::mem::take(&mut self.places), ..Self::default() };
        }
        Some(part_was)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.parts.iter().flatten().map(|(name, part)| (&**name, part))
    }

    pub fn place(&self, key: Key) -> Option<Place<At>> {
        self.places.get(&key).copied()
    }

    pub fn set_place(&mut self, key: Key, place: Place<At>) {
        self.places.insert(key, place);
    }

    /// Makes room for so many more entries.
    pub fn reserve(&mut self, entries: usize) {
        self.places.reserve(entries);
    }

    pub fn take_place(&mut self, key: Key) -> Option<Place<At>> {
        let place = self.places.remove(&key)?;
        if self.places.len() * 8 < self.places.capacity() {
            self.places.shrink_to(self.places.len() * 2);
        }
        Some(place)
    }

    /// Entries of all sessions.
    pub fn entries(&self) -> usize {
        self.places.len()
    }
}
