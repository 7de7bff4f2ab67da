//! The room for the keys and their values: part of the replicated state, so pure and deterministic.
//!
//! Keys are ordered by a fixed hash first, so that SCAN's cursor, which must be a number, can say where to go
//! on: at the first key whose hash is not below it, on any replica, however many keys came and went. An
//! ordered map also never stops to rehash. The order is no part of the state: nothing in the log depends on it.
//!
//! A value shorter than `SLICE_BYTES_MIN` is copied into a buffer of its own, which the next write of the key
//! reuses; a longer one stays a slice of the frame that brought it. So a value pins at most a frame.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::ops::Bound;

use bytes::Bytes;
use paxos_core::Slot;

use crate::limits::SLICE_BYTES_MIN;

/// The keys and their values.
#[derive(Debug, Default)]
pub struct Kv {
    items: BTreeMap<Key, Item>,
}

/// What a key holds.
#[derive(Debug)]
pub struct Item {
    value: Value,
    /// The slot that wrote it last.
    slot: Slot,
}

/// Boxed so that the rare long value does not widen the common short one.
#[derive(Debug)]
enum Value {
    Own(Vec<u8>),
    Slice(Box<Bytes>),
}

impl Item {
    /// The value.
    pub fn value(&self) -> &[u8] {
        match &self.value {
            Value::Own(bytes) => bytes,
            Value::Slice(bytes) => bytes,
        }
    }

    /// The slot of the command that wrote it.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The value, moved out where it is its own.
    pub fn into_value(self) -> Vec<u8> {
        match self.value {
            Value::Own(bytes) => bytes,
            Value::Slice(bytes) => bytes.to_vec(),
        }
    }
}

impl Kv {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What this key holds.
    pub fn item(&self, key: &[u8]) -> Option<&Item> {
        self.items.get(&Sought::of(key) as &dyn Ordered)
    }

    /// The value of this key.
    pub fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.item(key).map(Item::value)
    }

    /// Makes this key hold a copy of this value, or the slice that `share` makes of a long one.
    pub fn set(&mut self, key: &[u8], value: &[u8], slot: Slot, share: impl FnOnce() -> Bytes) {
        if value.len() >= SLICE_BYTES_MIN {
            self.replace(key, Value::Slice(Box::new(share())), slot);
            return;
        }
        self.edit(key, slot, |own| {
            own.clear();
            own.extend_from_slice(value);
        });
    }

    /// Lets `edit` change the value of this key in place; a key that is not there begins empty.
    pub fn edit(&mut self, key: &[u8], slot: Slot, edit: impl FnOnce(&mut Vec<u8>)) {
        let sought = Sought::of(key);
        if let Some(item) = self.items.get_mut(&sought as &dyn Ordered) {
            if let Value::Slice(bytes) = &item.value {
                item.value = Value::Own(bytes.to_vec());
            }
            if let Value::Own(own) = &mut item.value {
                edit(own);
                if own.capacity() > own.len().saturating_mul(2).max(64) {
                    own.shrink_to_fit(); // a long value does not leave its room to a short one
                }
            }
            item.slot = slot;
            return;
        }
        let mut own = Vec::new();
        edit(&mut own);
        self.items.insert(sought.key(), Item { value: Value::Own(own), slot });
    }

    fn replace(&mut self, key: &[u8], value: Value, slot: Slot) {
        let sought = Sought::of(key);
        if let Some(item) = self.items.get_mut(&sought as &dyn Ordered) {
            *item = Item { value, slot };
            return;
        }
        self.items.insert(sought.key(), Item { value, slot });
    }

    /// Removes this key.
    pub fn remove(&mut self, key: &[u8]) -> Option<Item> {
        self.items.remove(&Sought::of(key) as &dyn Ordered)
    }

    /// Shows keys from `cursor` on until `visit` says to stop; answers where to go on, 0 for the end. Keys
    /// of one hash are never separated, so every key that stays is shown once by a whole pass from 0 to 0.
    pub fn scan<'a>(&'a self, cursor: u64, mut visit: impl FnMut(&'a [u8]) -> Visit) -> u64 {
        let from = Sought { hash: cursor, name: b"" };
        let mut stop_behind = None;
        for key in self.items.range::<dyn Ordered, _>((Bound::Included(&from as &dyn Ordered), Bound::Unbounded)) {
            let (key, _) = key;
            if stop_behind.is_some_and(|hash| key.hash > hash) {
                return key.hash;
            }
            if visit(&key.name) == Visit::Stop {
                stop_behind = Some(key.hash);
            }
        }
        0
    }
}

/// Whether a scan goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visit {
    /// Show the next key.
    GoOn,
    /// This was enough.
    Stop,
}

/// A key in the map.
#[derive(PartialEq, Eq, Debug)]
struct Key {
    hash: u64,
    name: Box<[u8]>,
}

/// A key to be found in the map, without owning its name.
struct Sought<'a> {
    hash: u64,
    name: &'a [u8],
}

impl Sought<'_> {
    /// `DefaultHasher::new` has fixed keys (SipHash), so that equal replicas answer equal cursors.
    fn of(name: &[u8]) -> Sought<'_> {
        let mut hasher = DefaultHasher::new();
        hasher.write(name);
        Sought { hash: hasher.finish(), name }
    }

    fn key(&self) -> Key {
        Key { hash: self.hash, name: self.name.into() }
    }
}

/// What keys are compared by, owned or not.
trait Ordered {
    fn order(&self) -> (u64, &[u8]);
}

impl Ordered for Key {
    fn order(&self) -> (u64, &[u8]) {
        (self.hash, &self.name)
    }
}

impl Ordered for Sought<'_> {
    fn order(&self) -> (u64, &[u8]) {
        (self.hash, self.name)
    }
}

impl<'a> Borrow<dyn Ordered + 'a> for Key {
    fn borrow(&self) -> &(dyn Ordered + 'a) {
        self
    }
}

impl PartialEq for dyn Ordered + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for dyn Ordered + '_ {}

impl PartialOrd for dyn Ordered + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Ordered + '_ {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use quickcheck::quickcheck;

    use super::*;

    fn put(kv: &mut Kv, key: &[u8], value: &[u8], slot: u64) {
        let slot = Slot::new(slot).unwrap_or(Slot::FIRST);
        kv.set(key, value, slot, || Bytes::copy_from_slice(value));
    }

    #[test]
    fn a_long_value_stays_a_slice_and_a_short_one_is_copied() {
        let frame = Bytes::from(vec![b'v'; SLICE_BYTES_MIN + 10]);
        let mut kv = Kv::default();
        let long = &frame[5..SLICE_BYTES_MIN + 5];
        kv.set(b"long", long, Slot::FIRST, || frame.slice_ref(long));
        kv.set(b"short", &frame[..5], Slot::FIRST, || frame.slice_ref(&frame[..5]));
        let within = |key: &[u8]| kv.value(key).is_some_and(|value| frame.as_ptr_range().contains(&value.as_ptr()));
        assert!(within(b"long"));
        assert!(!within(b"short"));
    }

    #[test]
    fn a_short_value_does_not_keep_the_room_of_a_long_one() {
        let mut kv = Kv::default();
        put(&mut kv, b"k", &[b'v'; 100_000], 1);
        put(&mut kv, b"k", b"v", 2);
        let Some(Item { value: Value::Own(own), slot }) = kv.remove(b"k") else { panic!("an owned value") };
        assert!(own.capacity() < 100, "{}", own.capacity());
        assert_eq!(slot.get(), 2);
        assert!(kv.is_empty());
    }

    quickcheck! {
        fn behaves_like_a_map(steps: Vec<(u8, Option<Vec<u8>>)>) -> bool {
            let mut kv = Kv::default();
            let mut twin = BTreeMap::new();
            for (key, value) in steps {
                let key = [key % 16];
                match value {
                    Some(value) => {
                        put(&mut kv, &key, &value, 1);
                        twin.insert(key, value);
                    }
                    None if kv.remove(&key).map(Item::into_value) != twin.remove(&key) => return false,
                    None => {}
                }
            }
            kv.len() == twin.len() && (0..16).all(|key| kv.value(&[key]) == twin.get(&[key]).map(Vec::as_slice))
        }

        fn a_pass_shows_every_key_that_stays_exactly_once(stay: BTreeSet<u16>, flicker: Vec<u16>, step: usize) -> bool {
            let mut kv = Kv::default();
            stay.iter().for_each(|key| put(&mut kv, &key.to_be_bytes(), b"", 1));
            let mut flicker = flicker.into_iter().filter(|key| !stay.contains(key));
            let (mut cursor, mut shown) = (0, Vec::new());
            loop {
                let mut left = step % 5 + 1;
                cursor = kv.scan(cursor, |key| {
                    shown.push(key.to_vec());
                    left -= 1;
                    if left == 0 { Visit::Stop } else { Visit::GoOn }
                });
                if cursor == 0 {
                    break;
                }
                if let Some(key) = flicker.next() && kv.remove(&key.to_be_bytes()).is_none() {
                    put(&mut kv, &key.to_be_bytes(), b"", 1);
                }
            }
            stay.iter().all(|key| shown.iter().filter(|shown| **shown == key.to_be_bytes()).count() == 1)
        }
    }
}
