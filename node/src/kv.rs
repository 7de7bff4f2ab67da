//! The room for the keys and their values: part of the replicated state, so pure and deterministic.
//!
//! A hash table that grows and shrinks by one bucket at a time (linear hashing, Litwin 1980), so that no write
//! ever waits for a rehash. Hashes are keyed with the cluster's id, which clients do not learn, so that nobody
//! can choose keys that share a bucket; it is the same on every replica.
//!
//! SCAN walks the buckets by the reversed bits of their hashes. In that order a bucket and the one split off it
//! are neighbours, so a cursor says where to go on whatever became of the table, and on any replica. The order
//! is no part of the state: nothing in the log depends on it.
//!
//! A value shorter than `SLICE_BYTES_MIN` is copied into a buffer of its own, which the next write of the key
//! reuses; a longer one stays a slice of the frame that brought it. So a value pins at most a frame.

use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;
use paxos_core::Slot;

use crate::limits::SLICE_BYTES_MIN;

/// The keys and their values.
#[derive(Debug)]
pub struct Kv {
    /// Has the cluster's secret in it; cloned for each key.
    hasher: DefaultHasher,
    /// Never empty. About as many as there are keys.
    buckets: Vec<Link>,
    len: usize,
}

type Link = Option<Box<Place>>;

/// A key in its bucket.
#[derive(Debug)]
struct Place {
    hash: u64,
    key: Box<[u8]>,
    item: Item,
    next: Link,
}

impl Place {
    fn is(&self, hash: u64, key: &[u8]) -> bool {
        self.hash == hash && *self.key == *key
    }
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
    /// No keys yet. `secret` is the same on all replicas.
    pub fn new(secret: u128) -> Kv {
        let mut hasher = DefaultHasher::new();
        hasher.write_u128(secret);
        Kv { hasher, buckets: vec![None], len: 0 }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What this key holds.
    pub fn item(&self, key: &[u8]) -> Option<&Item> {
        let hash = self.hash(key);
        let mut link = self.buckets.get(self.bucket(hash))?;
        while let Some(place) = link {
            if place.is(hash, key) {
                return Some(&place.item);
            }
            link = &place.next;
        }
        None
    }

    /// The value of this key.
    pub fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.item(key).map(Item::value)
    }

    /// Makes this key hold a copy of this value, or the slice that `share` makes of a long one.
    pub fn set(&mut self, key: &[u8], value: &[u8], slot: Slot, share: impl FnOnce() -> Bytes) {
        if value.len() >= SLICE_BYTES_MIN {
            self.write(key, slot, |held| *held = Value::Slice(Box::new(share())));
            return;
        }
        self.edit(key, slot, |own| {
            own.clear();
            own.extend_from_slice(value);
        });
    }

    /// Lets `edit` change the value of this key in place; a key that is not there begins empty.
    pub fn edit(&mut self, key: &[u8], slot: Slot, edit: impl FnOnce(&mut Vec<u8>)) {
        self.write(key, slot, |held| {
            if let Value::Slice(bytes) = held {
                *held = Value::Own(bytes.to_vec());
            }
            if let Value::Own(own) = held {
                edit(own);
                if own.capacity() > own.len().saturating_mul(2).max(64) {
                    own.shrink_to_fit(); // a long value does not leave its room to a short one
                }
            }
        });
    }

    /// Removes this key.
    pub fn remove(&mut self, key: &[u8]) -> Option<Item> {
        let hash = self.hash(key);
        let bucket = self.bucket(hash);
        let mut link = self.buckets.get_mut(bucket)?;
        while link.as_ref().is_some_and(|place| !place.is(hash, key)) {
            link = &mut link.as_mut()?.next;
        }
        let place = link.take()?;
        *link = place.next;
        self.len -= 1;
        if self.len < self.buckets.len() / 4 {
            self.shrink();
        }
        Some(place.item)
    }

    /// Shows keys from `cursor` on until `visit` says to stop; answers where to go on, 0 for the end. Buckets
    /// are shown whole, so every key that stays is shown exactly once by a pass from 0 to 0.
    pub fn scan<'a>(&'a self, mut cursor: u64, mut visit: impl FnMut(&'a [u8]) -> Visit) -> u64 {
        loop {
            let bucket = self.bucket(cursor.reverse_bits());
            let mut stop = false;
            let mut link = self.buckets.get(bucket).and_then(Option::as_ref);
            while let Some(place) = link {
                if place.hash.reverse_bits() >= cursor {
                    stop |= visit(&place.key) == Visit::Stop;
                }
                link = place.next.as_ref();
            }
            // The bits that all hashes of this bucket share are the highest ones of the cursor.
            let rest = u64::BITS - self.bucket_bits(bucket);
            let next = (cursor.checked_shr(rest)).and_then(|shared| shared.checked_add(1)?.checked_shl(rest));
            match next {
                Some(next) if next > cursor && stop => return next,
                Some(next) if next > cursor => cursor = next,
                Some(_) | None => return 0,
            }
        }
    }

    fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.hasher.clone();
        hasher.write(key);
        hasher.finish()
    }

    /// The bucket of a hash: its lowest bits, one more of them for buckets that were split.
    fn bucket(&self, hash: u64) -> usize {
        let (count, whole) = (self.buckets.len(), self.whole_buckets());
        let bucket = (hash as usize) & (whole * 2 - 1);
        if bucket < count { bucket } else { bucket & (whole - 1) }
    }

    /// How many of the lowest bits the hashes of a bucket share.
    fn bucket_bits(&self, bucket: usize) -> u32 {
        let whole = self.whole_buckets();
        let split = self.buckets.len() - whole;
        whole.ilog2() + u32::from(bucket < split || bucket >= whole)
    }

    /// The largest power of two that is no more than the count of buckets.
    fn whole_buckets(&self) -> usize {
        1 << self.buckets.len().max(1).ilog2()
    }

    fn place_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut Place> {
        let bucket = self.bucket(hash);
        let mut link = self.buckets.get_mut(bucket)?;
        while let Some(place) = link {
            if place.is(hash, key) {
                return Some(place);
            }
            link = &mut place.next;
        }
        None
    }

    /// Lets `change` change what a key holds, an empty value if the key is not there.
    fn write(&mut self, key: &[u8], slot: Slot, change: impl FnOnce(&mut Value)) {
        let hash = self.hash(key);
        if let Some(place) = self.place_mut(hash, key) {
            place.item.slot = slot;
            change(&mut place.item.value);
            return;
        }
        let mut value = Value::Own(Vec::new());
        change(&mut value);
        if self.len >= self.buckets.len() {
            self.grow();
        }
        self.put(Box::new(Place { hash, key: key.into(), item: Item { value, slot }, next: None }));
        self.len += 1;
    }

    fn put(&mut self, mut place: Box<Place>) {
        let bucket = self.bucket(place.hash);
        if let Some(link) = self.buckets.get_mut(bucket) {
            place.next = link.take();
            *link = Some(place);
        }
    }

    /// Adds a bucket and gives it its part of the one that it is split off.
    fn grow(&mut self) {
        self.buckets.push(None);
        let added = self.buckets.len() - 1;
        self.scatter(sibling(added));
    }

    /// Takes the last bucket back into the one that it was split off.
    fn shrink(&mut self) {
        if self.buckets.len() > 1
            && let Some(mut link) = self.buckets.pop()
        {
            while let Some(mut place) = link {
                link = place.next.take();
                self.put(place);
            }
        }
    }

    fn scatter(&mut self, bucket: usize) {
        let mut link = self.buckets.get_mut(bucket).and_then(Option::take);
        while let Some(mut place) = link {
            link = place.next.take();
            self.put(place);
        }
    }
}

/// The bucket that this one is split off.
fn sibling(bucket: usize) -> usize {
    bucket - (1 << bucket.max(1).ilog2())
}

/// Whether a scan goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visit {
    /// Show the next key.
    GoOn,
    /// This was enough.
    Stop,
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
        let mut kv = Kv::new(7);
        let long = &frame[5..SLICE_BYTES_MIN + 5];
        kv.set(b"long", long, Slot::FIRST, || frame.slice_ref(long));
        kv.set(b"short", &frame[..5], Slot::FIRST, || frame.slice_ref(&frame[..5]));
        let within = |key: &[u8]| kv.value(key).is_some_and(|value| frame.as_ptr_range().contains(&value.as_ptr()));
        assert!(within(b"long"));
        assert!(!within(b"short"));
    }

    #[test]
    fn a_short_value_does_not_keep_the_room_of_a_long_one() {
        let mut kv = Kv::new(7);
        put(&mut kv, b"k", &[b'v'; 100_000], 1);
        put(&mut kv, b"k", b"v", 2);
        let Some(Item { value: Value::Own(own), slot }) = kv.remove(b"k") else { panic!("an owned value") };
        assert!(own.capacity() < 100, "{}", own.capacity());
        assert_eq!(slot.get(), 2);
        assert!(kv.is_empty());
    }

    quickcheck! {
        fn behaves_like_a_map(steps: Vec<(u8, Option<Vec<u8>>)>) -> bool {
            let mut kv = Kv::new(7);
            let mut twin = BTreeMap::new();
            for (key, value) in steps.iter().cloned().chain(steps.iter().map(|(key, _)| (*key, None))).chain(steps.clone()) {
                let key = [key];
                match value {
                    Some(value) => {
                        put(&mut kv, &key, &value, 1);
                        twin.insert(key, value);
                    }
                    None if kv.remove(&key).map(Item::into_value) != twin.remove(&key) => return false,
                    None => {}
                }
            }
            kv.len() == twin.len() && (0..=255).all(|key| kv.value(&[key]) == twin.get(&[key]).map(Vec::as_slice))
        }

        fn a_pass_shows_every_key_that_stays_exactly_once(stay: BTreeSet<u16>, flicker: Vec<u16>, step: usize) -> bool {
            let mut kv = Kv::new(7);
            stay.iter().for_each(|key| put(&mut kv, &key.to_be_bytes(), b"", 1));
            let mut flicker = flicker.into_iter().filter(|key| !stay.contains(key));
            let (mut cursor, mut shown) = (0, Vec::new());
            loop {
                let mut left = step % 5 + 1; // a bucket is shown whole, even behind a stop
                cursor = kv.scan(cursor, |key| {
                    shown.push(key.to_vec());
                    left = left.saturating_sub(1);
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
