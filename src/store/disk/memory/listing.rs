//! Which sessions remember something, how much, and whose an entry is.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use super::tables::{read_count, read_session, stored_model};
use super::view::DiskView;
use crate::model::{EntryId, Forgetting, Result, VectorModel};
use crate::store::disk::core::Core;
use crate::store::disk::layout;

impl Core {
    pub(in crate::store::disk) fn session_of(&self, id: EntryId) -> Result<Option<Arc<str>>> {
        let (later, snapshot) = self.later()?;
        let session = match later.iter().rev().find_map(|(_, tail)| tail.owner(id)) {
            Some(session) => Some(session),
            None => {
                let found = self.lmdb.tables.owners.get(&snapshot.txn, &id.to_bytes());
                let found = found.map_err(self.lmdb.fail("read"))?;
                found.map(|name| read_session(&self.lmdb, name)).transpose()?
            }
        };
        let Some(session) = session else { return Ok(None) };
        // The tail may have forgotten it since.
        let view = DiskView::new(self, &session, &later, &snapshot);
        let exists = view.fate(id).exists(view.is_stored(id)?);
        Ok(exists.then_some(session))
    }

    pub(in crate::store::disk) fn sessions(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Arc<str>, u64)>> {
        let (later, snapshot) = self.later()?;
        let touched: HashSet<Arc<str>> = {
            let names = later.iter().flat_map(|(_, tail)| tail.sessions());
            names.filter(|name| after.is_none_or(|after| **name > *after)).collect()
        };
        let mut counts: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        let wanted = limit.saturating_add(touched.len());
        let fail = self.lmdb.fail("read");
        let from = after.map_or(Bound::Unbounded, |name| Bound::Excluded(name.as_bytes()));
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (from, Bound::Unbounded);
        let table = &self.lmdb.tables.sessions;
        for entry in table.range(&snapshot.txn, &range).map_err(&fail)?.take(wanted) {
            let (name, count) = entry.map_err(&fail)?;
            counts.insert(read_session(&self.lmdb, name)?, read_count(Some(count)));
        }
        for name in touched {
            let stored = table.get(&snapshot.txn, name.as_bytes()).map_err(&fail)?;
            let view = DiskView::new(self, &name, &later, &snapshot);
            let count = count(&view, read_count(stored))?;
            counts.insert(name, count);
        }
        Ok(counts.into_iter().filter(|(_, count)| *count > 0).take(limit).collect())
    }

    pub(in crate::store::disk) fn forgetting(&self, session: &str) -> Result<Option<Forgetting>> {
        let (later, snapshot) = self.later()?;
        if let Some(set) = later.iter().rev().find_map(|(_, tail)| tail.forgetting(session)) {
            return Ok(set);
        }
        let found = self.lmdb.tables.meta.get(&snapshot.txn, &layout::forgetting_key(session));
        let Some(value) = found.map_err(self.lmdb.fail("read"))? else { return Ok(None) };
        let read = rmp_serde::from_slice(value);
        read.map(Some).map_err(|e| self.lmdb.corrupt(format!("how a session forgets: {e}")))
    }

    pub(in crate::store::disk) fn set_apart(&self) -> Result<Vec<Arc<str>>> {
        let (later, snapshot) = self.later()?;
        let fail = self.lmdb.fail("read");
        let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
        let stored = self.lmdb.tables.meta.prefix_iter(&snapshot.txn, layout::FORGETTING);
        for entry in stored.map_err(&fail)? {
            let (key, _) = entry.map_err(&fail)?;
            names.insert(read_session(&self.lmdb, &key[layout::FORGETTING.len()..])?);
        }
        for (name, is_set) in later.iter().flat_map(|(_, tail)| tail.set_apart()) {
            if is_set {
                names.insert(name)
            } else {
                names.remove(&name)
            };
        }
        Ok(names.into_iter().collect())
    }

    pub(in crate::store::disk) fn vector_model(&self) -> Result<Option<VectorModel>> {
        let (later, snapshot) = self.later()?;
        let in_tail = later.iter().rev().find_map(|(_, tail)| tail.model());
        if in_tail.is_some() {
            return Ok(in_tail);
        }
        let model = stored_model(&snapshot.txn, &self.lmdb.tables, &self.lmdb);
        model.map_err(|error| self.lmdb.told("read", error))
    }
}

/// Entries of a session of which `stored` are stored.
fn count(view: &DiskView<'_>, stored: u64) -> Result<u64> {
    let overlay = view.overlay();
    let mut count = if overlay.cleared { 0 } else { stored };
    for (id, fate) in &overlay.fates {
        let before = !overlay.cleared && view.is_stored(*id)?;
        match (before, fate.exists(before)) {
            (false, true) => count += 1,
            (true, false) => count = count.saturating_sub(1),
            _ => {}
        }
    }
    Ok(count)
}
