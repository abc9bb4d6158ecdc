//! What is known of one server's definitions, in memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bartizan_catalog::pin::PinKind;
use bartizan_store::repo::definition::{self, Definition};
use bartizan_store::{Store, StoreError};

/// The rows of one server at one moment.
#[derive(Debug, Default)]
pub(crate) struct Known {
    rows: HashMap<PinKind, HashMap<Box<str>, Arc<Definition>>>,
    synced: HashSet<PinKind>,
    count: usize,
}

impl Known {
    pub(crate) async fn load(store: &Store, server: &str) -> Result<Self, StoreError> {
        let mut known = Self::default();
        // First looks are read first: one that is made in between is found without its rows, and
        // rows that are missing only hide.
        let synced = definition::synced(store, server).await?;
        known.synced = synced.iter().filter_map(|word| PinKind::parse(word)).collect();
        for row in definition::of_server(store, server).await? {
            let Some(kind) = PinKind::parse(&row.kind) else { continue };
            known.count += 1;
            known.rows.entry(kind).or_default().insert(row.name.as_str().into(), Arc::new(row));
        }
        Ok(known)
    }

    pub(crate) fn get(&self, kind: PinKind, name: &str) -> Option<&Arc<Definition>> {
        self.rows.get(&kind)?.get(name)
    }

    pub(crate) fn of(&self, kind: PinKind) -> impl Iterator<Item = &Arc<Definition>> {
        self.rows.get(&kind).into_iter().flat_map(HashMap::values)
    }

    /// Whether a kind was seen before.
    pub(crate) fn is_synced(&self, kind: PinKind) -> bool {
        self.synced.contains(&kind)
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
}
