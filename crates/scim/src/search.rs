//! Searching, the same for users and groups.

use std::future::Future;

use bartizan_store::{Store, StoreError};
use serde_json::{Map, Value};

use crate::error::ScimError;
use crate::filter;
use crate::http::Scim;
use crate::query::{BATCH, Found, MAX_LOOKED_AT, Query};

/// A kind of resource that can be searched.
pub(crate) trait Kind: Sized + Send + Sync {
    /// Its name, for messages.
    const WHAT: &'static str;
    /// The attribute that names one.
    const NAME: &'static str;
    /// The attribute that costs another look into the store.
    const RELATED: &'static str;

    fn id(&self) -> &str;
    fn count(store: &Store) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// In order of id.
    fn page(store: &Store, skip: u64, most: u32) -> impl Future<Output = Result<Vec<Self>, StoreError>> + Send;
    /// The next ones in order of id.
    fn after(store: &Store, last: &str, most: u32) -> impl Future<Output = Result<Vec<Self>, StoreError>> + Send;
    fn get(store: &Store, id: &str) -> impl Future<Output = Result<Option<Self>, StoreError>> + Send;
    fn named(store: &Store, name: &str) -> impl Future<Output = Result<Vec<Self>, StoreError>> + Send;
    fn by_external(store: &Store, external: &str) -> impl Future<Output = Result<Vec<Self>, StoreError>> + Send;
    /// In the form of an answer, with [`Self::RELATED`] or without.
    fn show(&self, scim: &Scim, related: bool) -> impl Future<Output = Result<Map<String, Value>, ScimError>> + Send;
}

impl Scim {
    /// One page of what fits. What the store cannot look up is read in order and compared, up
    /// to a bound.
    pub(crate) async fn find<K: Kind>(&self, query: &Query) -> Result<Found, ScimError> {
        let failed = |e| ScimError::store(&e, K::WHAT);
        let store = &self.deps.store;
        let shown = query.selection.has(K::RELATED);
        let Some(filter) = &query.filter else {
            let total = K::count(store).await.map_err(failed)?;
            let mut resources = Vec::new();
            let most = u32::try_from(query.count).unwrap_or(0);
            let skip = u64::try_from(query.skip).unwrap_or(u64::MAX);
            for row in K::page(store, skip, most).await.map_err(failed)? {
                resources.push(query.selection.apply(row.show(self, shown).await?));
            }
            return Ok(Found { total: usize::try_from(total).unwrap_or(usize::MAX), resources });
        };
        let compared = filter.looks_at(K::RELATED);
        let mut few = if let Some(id) = filter.must_equal("id") {
            Some(K::get(store, id).await.map_err(failed)?.into_iter().collect::<Vec<_>>())
        } else if let Some(name) = filter.must_equal(K::NAME) {
            Some(K::named(store, name).await.map_err(failed)?)
        } else if let Some(external) = filter.must_equal("externalId") {
            Some(K::by_external(store, external).await.map_err(failed)?)
        } else {
            None
        };
        let (mut found, mut last, mut looked_at) = (Found::default(), String::new(), 0);
        loop {
            let (rows, are_all) = match few.take() {
                Some(rows) => (rows, true),
                None => (K::after(store, &last, BATCH).await.map_err(failed)?, false),
            };
            looked_at += rows.len();
            if looked_at > MAX_LOOKED_AT {
                return Err(ScimError::too_many());
            }
            for row in &rows {
                let resource = row.show(self, compared).await?;
                if !filter::matches(filter, &resource) {
                    continue;
                }
                if found.total >= query.skip && found.resources.len() < query.count {
                    let resource = if shown && !compared { row.show(self, true).await? } else { resource };
                    found.resources.push(query.selection.apply(resource));
                }
                found.total += 1;
            }
            match rows.last() {
                Some(newest) if !are_all => newest.id().clone_into(&mut last),
                _ => return Ok(found),
            }
        }
    }
}
