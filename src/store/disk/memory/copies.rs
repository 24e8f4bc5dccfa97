//! Which copies cold tiers may hold: in the journal's tail as operations, in LMDB as a table.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::tables::read_session;
use crate::model::Result;
use crate::store::disk::core::Core;
use crate::store::disk::layout;
use crate::store::memory::Copies;

impl Core {
    pub(in crate::store::disk) fn copies(&self, session: &str) -> Result<Copies> {
        let (later, snapshot) = self.later()?;
        let fail = self.lmdb.fail("read");
        let mut copies = Copies::new();
        let prefix = layout::session_prefix(session);
        let stored = self.lmdb.tables.copies.prefix_iter(&snapshot.txn, &prefix);
        for entry in stored.map_err(&fail)? {
            let (key, tier) = entry.map_err(&fail)?;
            let id = layout::memory_id(key);
            let id = id.ok_or_else(|| self.lmdb.corrupt("a key of its copies"))?;
            copies.insert(id, read_session(&self.lmdb, tier)?);
        }
        later.iter().for_each(|(_, tail)| tail.track(session, &mut copies));
        Ok(copies)
    }

    /// Every session that may have copies; some may have none any more.
    pub(in crate::store::disk) fn copied(&self) -> Result<Vec<Arc<str>>> {
        let (later, snapshot) = self.later()?;
        let mut names: BTreeSet<Arc<str>> =
            later.iter().flat_map(|(_, tail)| tail.copied()).collect();
        let fail = self.lmdb.fail("read");
        for entry in self.lmdb.tables.copies.iter(&snapshot.txn).map_err(&fail)? {
            let (key, _) = entry.map_err(&fail)?;
            let name = layout::memory_session(key);
            let name = name.ok_or_else(|| self.lmdb.corrupt("a key of its copies"))?;
            if !names.contains(name) {
                names.insert(name.into());
            }
        }
        Ok(names.into_iter().collect())
    }
}
