//! A scan through a layer of changes over older records.
//!
//! Used by `overlay.rs` (uncommitted over applied) and `row_table.rs` (active over frozen over
//! engine). Knows nothing of where the older records come from: it asks for them page by page.

use std::borrow::Cow;

use bytes::Bytes;

use crate::error::StoreError;
use crate::key::Key;

/// A change as a layer hands it out: `None` hides the older record.
pub(crate) type Layered<'a> = (Cow<'a, Key>, Option<&'a Bytes>);

/// Merges `layer`, sorted and already limited to `from..end`, over the records that `below` finds in
/// a range. At most `limit` records, in key order; where both have a key the layer wins.
///
/// The first page asked of `below` has the size of the answer; it is exceeded only where the layer
/// removes records, and then pages double, so that a run of removed records costs few seeks.
pub(crate) fn merge<'a>(
    layer: impl Iterator<Item = Layered<'a>>,
    (from, end): (&Key, &Key),
    limit: usize,
    mut below: impl FnMut(&Key, &Key, usize) -> Result<Vec<(Key, Bytes)>, StoreError>,
) -> Result<Vec<(Key, Bytes)>, StoreError> {
    let mut found = Vec::new();
    if limit == 0 || end <= from {
        return Ok(found);
    }
    let mut layer = layer.peekable();
    let mut start = Cow::Borrowed(from);
    let mut page_rows = limit;
    loop {
        let page = below(&start, end, page_rows)?;
        let next = match page.last() {
            Some((key, _)) if page.len() >= page_rows => Some(key.successor()),
            _ => None,
        };
        for (key, value) in page {
            while let Some((key, value)) = layer.next_if(|(at, _)| **at < key) {
                found.extend(value.map(|value| (key.into_owned(), value.clone())));
                if found.len() == limit {
                    return Ok(found);
                }
            }
            match layer.next_if(|(at, _)| **at == key) {
                Some((_, newer)) => found.extend(newer.map(|newer| (key, newer.clone()))),
                None => found.push((key, value)),
            }
            if found.len() == limit {
                return Ok(found);
            }
        }
        let Some(next) = next else { break };
        start = Cow::Owned(next);
        page_rows = page_rows.saturating_mul(2);
    }
    let rest = layer.filter_map(|(key, value)| Some((key.into_owned(), value?.clone())));
    let room = limit - found.len();
    found.extend(rest.take(room));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> Key {
        Key::from_bytes(&[number])
    }

    type Map = BTreeMap<Key, Option<Bytes>>;

    fn layer() -> impl Strategy<Value = Map> {
        let value = proptest::option::of(any::<u8>());
        proptest::collection::btree_map(0u8..24, value, 0..24).prop_map(|map| {
            map.into_iter().map(|(k, v)| (key(k), v.map(|v| vec![v].into()))).collect()
        })
    }

    proptest! {
        #[test]
        fn a_merged_scan_equals_a_scan_of_the_merged_map(
            older in layer(), newer in layer(), from in 0u8..26, end in 0u8..26, limit in 0usize..12,
        ) {
            let older: BTreeMap<Key, Bytes> =
                older.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
            let mut model = older.clone();
            for (key, value) in &newer {
                match value {
                    Some(value) => model.insert(key.clone(), value.clone()),
                    None => model.remove(key),
                };
            }
            let (from, end) = (key(from), key(end));
            let within = |at: &Key| from <= *at && *at < end;
            let want: Vec<(Key, Bytes)> = model
                .into_iter().filter(|(at, _)| within(at)).take(limit).collect();

            let layer = newer
                .iter().filter(|(at, _)| within(at)).map(|(k, v)| (Cow::Borrowed(k), v.as_ref()));
            let below = |from: &Key, end: &Key, rows: usize| {
                Ok(older
                    .iter()
                    .filter(|(at, _)| from <= *at && *at < end)
                    .take(rows)
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect())
            };
            prop_assert_eq!(merge(layer, (&from, &end), limit, below).unwrap(), want);
        }
    }
}
