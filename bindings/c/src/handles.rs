//! Owns what C holds instead of objects: numbers in pointers' clothing, and the tables that they
//! are looked up in. Which tables there are is for those to say whose objects are in them.
//!
//! Nothing is ever read at a handle's address. Numbers are given out once in a process's life, over
//! all tables, so a handle that was released, or is of another kind, is found in no table. A lookup
//! takes a lock for some tens of nanoseconds and keeps the object alive for the call, whatever
//! other threads release meanwhile.

use std::collections::BTreeMap;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::status::Failure;

/// The number of the next handle. Zero is NULL.
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// The open objects of one kind, by the numbers of their handles.
pub(crate) struct Table<H, T> {
    kind: &'static str,
    open: RwLock<BTreeMap<usize, Arc<T>>>,
    handle: std::marker::PhantomData<fn(H)>,
}

impl<H, T> Table<H, T> {
    pub(crate) const fn new(kind: &'static str) -> Self {
        let open = RwLock::new(BTreeMap::new());
        Self { kind, open, handle: std::marker::PhantomData }
    }

    /// Takes an object in, and gives out its handle.
    pub(crate) fn open(&self, object: T) -> *mut H {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(number, Arc::new(object));
        ptr::without_provenance_mut(number)
    }

    /// What a handle stands for.
    pub(crate) fn find(&self, handle: *mut H) -> Result<Arc<T>, Failure> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&handle.addr()).cloned().ok_or(Failure::Handle(self.kind))
    }

    /// Ends a handle. What it stood for lives on in calls of other threads only.
    pub(crate) fn close(&self, handle: *mut H) -> Result<Arc<T>, Failure> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let object = open.remove(&handle.addr()).ok_or(Failure::Handle(self.kind))?;
        if open.is_empty() {
            // An empty map keeps a node: who released everything leaves nothing behind.
            *open = BTreeMap::new();
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_good_until_it_is_closed_and_in_its_own_table_only() {
        let [here, there] = [Table::<(), u8>::new("here"), Table::new("there")];
        let handles = [1, 2].map(|object| here.open(object));
        let other = there.open(3);
        assert!(!handles[0].is_null() && handles[0] != handles[1]);
        assert_eq!((*here.find(handles[0]).unwrap(), *here.find(handles[1]).unwrap()), (1, 2));
        assert_eq!(*here.close(handles[0]).unwrap(), 1);
        for stale in [handles[0], other, ptr::null_mut(), &raw mut *Box::new(())] {
            assert!(matches!(here.find(stale), Err(Failure::Handle("here"))));
            assert!(matches!(here.close(stale), Err(Failure::Handle("here"))));
        }
        assert_eq!(*there.close(other).unwrap(), 3);
        assert_eq!(*here.close(handles[1]).unwrap(), 2);
        assert_ne!(here.open(4), handles[1]);
    }

    #[test]
    fn what_is_closed_lives_as_long_as_it_is_used() {
        let table = Table::<(), String>::new("table");
        let handle = table.open("still here".to_owned());
        let used = table.find(handle).unwrap();
        drop(table.close(handle).unwrap());
        assert_eq!(*used, "still here");
        assert_eq!(Arc::strong_count(&used), 1);
    }
}
