//! Whose a tier is: two stores in one tier would delete and overwrite each other's memories.
//!
//! A store claims the tier before it puts anything there, and asks whose it is before it deletes. A claim is a
//! memory like others, in the session without a name, which no user's session can be; its id is the store's.
//! Beside it lies a card that says in words who claimed last. So every tier can keep claims, and nobody else
//! ever sees them. A copy of a store, or one from a backup, has the same id and is the same store.

use super::{Cold, arrived};
use crate::memory::service::Memory;
use crate::model::{Content, EntryId, Error, Result, Vector};
use crate::store::Identity;
use crate::tier;

/// The session of the claims.
const CLAIMS: &str = "";
/// Where the card lies; no store's id, which are drawn at random.
const CARD: u128 = 0;

impl Memory {
    /// Makes the tier this store's before something is put there, a vector of so many parts.
    ///
    /// # Errors
    /// `memory.tier_owner` where it is another store's; `memory.tier`, `store.*`.
    pub(super) fn claim(&self, cold: &Cold, dimension: usize) -> Result<()> {
        let Some(own) = self.store.identity()? else { return Ok(()) };
        if is_own(cold, &own)? {
            return Ok(());
        }
        let claims = [id_of(&own), EntryId::from_u128(CARD)].map(|id| tier::Cold {
            id,
            content: Content::Text(name_of(&own)),
            vector: any_vector(dimension),
            tags: Vec::new(),
        });
        cold.heard(cold.tier().put(CLAIMS, &claims))?;
        cold.heard(arrived(cold, CLAIMS, &claims[..1]))?;
        // Of two stores that found it free at the same moment, none gets it.
        if let Err(error) = is_own(cold, &own) {
            cold.heard(cold.tier().delete(CLAIMS, &[id_of(&own)]))?;
            return Err(error);
        }
        Ok(())
    }

    /// Refuses a tier that is another store's; one that nobody has claimed is nobody's.
    ///
    /// # Errors
    /// As `claim`.
    pub(super) fn check_owner(&self, cold: &Cold) -> Result<()> {
        let Some(own) = self.store.identity()? else { return Ok(()) };
        is_own(cold, &own).map(drop)
    }
}

/// True where the tier is this store's, false where it is nobody's. The tier is asked until it is.
fn is_own(cold: &Cold, own: &Identity) -> Result<bool> {
    if cold.is_own.get().is_some() {
        return Ok(true);
    }
    let (id, card) = (id_of(own), EntryId::from_u128(CARD));
    let found = cold.heard(cold.tier().fetch(CLAIMS, &[id, card]))?;
    if cold.heard(cold.tier().count(CLAIMS))? > found.len() as u64 {
        let named = found.iter().find(|it| it.id == card).and_then(|it| it.content.text());
        return cold.heard(Err(taken(cold.tier().name(), own, named)));
    }
    let is_own = found.iter().any(|it| it.id == id);
    if is_own {
        let _ = cold.is_own.set(());
    }
    Ok(is_own)
}

fn id_of(store: &Identity) -> EntryId {
    EntryId::from_u128(u128::from_be_bytes(store.id))
}

fn name_of(store: &Identity) -> String {
    format!("store `{}` (id {})", store.path, id_of(store))
}

/// Tiers keep nothing without a vector; claims are found by their ids.
fn any_vector(dimension: usize) -> Vector {
    let mut parts = vec![0.0; dimension];
    parts[0] = 1.0;
    Vector::new(&parts)
}

fn taken(tier: &str, own: &Identity, named: Option<&str>) -> Error {
    let own = name_of(own);
    // Where both claim at once the card may be one's own.
    let other = named.filter(|named| *named != own).unwrap_or("another store");
    Error::new(
        "memory.tier_owner",
        format!("tier `{tier}` belongs to {other}, and cannot be used by {own}"),
        "give each store a directory, collection or index of its own",
    )
}
