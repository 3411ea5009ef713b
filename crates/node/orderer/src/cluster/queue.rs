//! What waits to be sent to one node: bounded in number and bytes, never waited for.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Bytes a second below which a receiver counts as one that does not read.
const SLOWEST: u64 = 1 << 20;

/// A bounded queue whose reader can be replaced.
pub(crate) struct Queue<T> {
    max_items: usize,
    max_bytes: usize,
    inner: Mutex<Inner<T>>,
    changed: Notify,
}

struct Inner<T> {
    items: VecDeque<Item<T>>,
    bytes: usize,
    suspended: bool,
    /// Which reader may take items: the one that began last.
    reader: u64,
    /// Since when something waits and the reader takes nothing. That items were dropped meanwhile
    /// does not count.
    untouched: Option<Instant>,
    /// How large the item was that the reader took last.
    last_size: usize,
}

struct Item<T> {
    content: T,
    size: usize,
    since: Instant,
}

/// Why an item was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Suspended,
}

impl<T> Queue<T> {
    /// A queue of so many items and bytes; a single item may be larger.
    pub(crate) fn new(max_items: usize, max_bytes: usize) -> Self {
        Self {
            max_items: max_items.max(1),
            max_bytes,
            inner: Mutex::new(Inner {
                items: VecDeque::new(),
                bytes: 0,
                suspended: false,
                reader: 0,
                untouched: None,
                last_size: 0,
            }),
            changed: Notify::new(),
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.max_items
    }

    pub(crate) fn len(&self) -> usize {
        self.inner.lock().items.len()
    }

    fn fits(&self, inner: &Inner<T>, size: usize) -> bool {
        inner.items.is_empty()
            || (inner.items.len() < self.max_items && inner.bytes + size <= self.max_bytes)
    }

    /// Adds an item where there is room.
    pub(crate) fn offer(&self, content: T, size: usize) -> Result<(), Refused> {
        let mut inner = self.inner.lock();
        if inner.suspended {
            return Err(Refused::Suspended);
        }
        if !self.fits(&inner, size) {
            return Err(Refused::Full);
        }
        inner.add(content, size);
        drop(inner);
        self.changed.notify_waiters();
        Ok(())
    }

    /// Adds an item and drops the oldest ones that leave no room for it. Answers how many items
    /// were dropped, the new one included where the queue is suspended.
    pub(crate) fn push(&self, content: T, size: usize) -> usize {
        let mut inner = self.inner.lock();
        if inner.suspended {
            return 1;
        }
        let mut dropped = 0;
        while !self.fits(&inner, size) {
            inner.remove_oldest();
            dropped += 1;
        }
        inner.add(content, size);
        drop(inner);
        self.changed.notify_waiters();
        dropped
    }

    /// Drops everything and takes nothing in until [`Self::resume`]. Readers end. Answers how many
    /// items were dropped.
    pub(crate) fn suspend(&self) -> usize {
        let mut inner = self.inner.lock();
        inner.suspended = true;
        inner.reader += 1;
        inner.bytes = 0;
        inner.untouched = None;
        let dropped = std::mem::take(&mut inner.items).len();
        drop(inner);
        self.changed.notify_waiters();
        dropped
    }

    pub(crate) fn resume(&self) {
        self.inner.lock().suspended = false;
    }

    /// Begins to read; readers that began before end.
    pub(crate) fn begin(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.reader += 1;
        inner.touch(0);
        let reader = inner.reader;
        drop(inner);
        self.changed.notify_waiters();
        reader
    }

    /// The next item and how long it waited; `None` once another reader has begun.
    pub(crate) async fn take(&self, reader: u64) -> Option<(T, Duration)> {
        self.wait(|inner| {
            if inner.reader != reader {
                return Some(None);
            }
            let item = inner.remove_oldest()?;
            inner.touch(item.size);
            Some(Some((item.content, item.since.elapsed())))
        })
        .await
    }

    /// Waits until something waits.
    pub(crate) async fn some(&self) {
        self.wait(|inner| (!inner.items.is_empty()).then_some(()))
            .await;
    }

    /// Waits until the reader has left something waiting for longer than `patience`, beside what the
    /// item before it may need on a slow line.
    pub(crate) async fn stalled(&self, patience: Duration) {
        loop {
            let due = self.wait(|inner| inner.due(patience)).await;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }

    async fn wait<R>(&self, mut look: impl FnMut(&mut Inner<T>) -> Option<R>) -> R {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before looking, so that no change is missed in between.
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.inner.lock()) {
                return found;
            }
            changed.await;
        }
    }
}

impl<T> Inner<T> {
    fn add(&mut self, content: T, size: usize) {
        let since = Instant::now();
        self.bytes += size;
        self.items.push_back(Item {
            content,
            size,
            since,
        });
        self.untouched.get_or_insert(since);
    }

    /// Until when the reader has to take something; `None` while nothing waits.
    fn due(&self, patience: Duration) -> Option<Instant> {
        let slow = self.last_size as u64 * 1_000 / SLOWEST;
        Some(self.untouched? + Duration::from_millis(slow) + patience)
    }

    /// The reader shows that it is there.
    fn touch(&mut self, size: usize) {
        self.last_size = size;
        self.untouched = (!self.items.is_empty()).then(Instant::now);
    }

    fn remove_oldest(&mut self) -> Option<Item<T>> {
        let item = self.items.pop_front()?;
        self.bytes -= item.size;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    async fn all(queue: &Queue<u32>) -> Vec<u32> {
        let reader = queue.begin();
        let mut taken = Vec::new();
        while queue.len() > 0 {
            taken.push(queue.take(reader).await.unwrap().0);
        }
        taken
    }

    #[tokio::test]
    async fn the_oldest_are_dropped_or_the_newest_refused() {
        let queue = Queue::new(3, 100);
        assert_eq!([1, 2, 3].map(|n| queue.push(n, 1)), [0, 0, 0]);
        assert_eq!(queue.push(4, 1), 1);
        assert_eq!(queue.offer(5, 1), Err(Refused::Full));
        assert_eq!(all(&queue).await, [2, 3, 4]);
        // Bytes count too, but one item always fits.
        assert_eq!(queue.offer(1, 60), Ok(()));
        assert_eq!(queue.offer(2, 60), Err(Refused::Full));
        assert_eq!(queue.push(3, 60), 1);
        assert_eq!(queue.push(4, 1_000), 1);
        assert_eq!(all(&queue).await, [4]);
    }

    #[tokio::test]
    async fn a_suspended_queue_is_empty_and_ends_its_reader() {
        let queue = Arc::new(Queue::new(3, 100));
        queue.push(1, 1);
        let reader = queue.begin();
        assert_eq!(queue.take(reader).await.unwrap().0, 1);
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.take(reader).await.is_none() }
        });
        tokio::task::yield_now().await;
        queue.push(2, 1);
        // Whoever of the two came first.
        assert!(queue.suspend() <= 1);
        waiting.await.unwrap();
        assert_eq!(queue.push(3, 1), 1);
        assert_eq!(queue.offer(3, 1), Err(Refused::Suspended));
        queue.resume();
        assert_eq!(queue.push(4, 1), 0);
        assert!(queue.take(reader).await.is_none());
        assert_eq!(all(&queue).await, [4]);
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let queue = Queue::new(3, usize::MAX);
        let patience = Duration::from_secs(7);
        let due = || queue.inner.lock().due(patience);
        let reader = queue.begin();
        assert_eq!(due(), None, "nothing waits");
        let before = Instant::now();
        queue.push(1, 10 << 20);
        let first = due().unwrap();
        assert!(first >= before + patience && first <= Instant::now() + patience);
        queue.push(2, 1);
        assert_eq!(due(), Some(first));
        queue.take(reader).await.unwrap();
        let slow = Duration::from_secs(10);
        assert!(due().unwrap() >= first + slow, "ten megabytes take time");
        // That newer items push out older ones is no sign of life.
        queue.begin();
        let again = due().unwrap();
        assert!(again <= Instant::now() + patience);
        for n in 0..6 {
            assert_eq!(queue.push(n, 1) > 0, n > 1);
            assert_eq!(due(), Some(again));
        }
        queue.stalled(Duration::ZERO).await;
        queue.take(reader + 1).await.unwrap();
        queue.suspend();
        assert_eq!(due(), None);
    }
}
