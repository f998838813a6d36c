//! The text of a page, in memory that the next page uses again.
//!
//! With a thousand spokes a page is some mebibytes. The allocator keeps such memory for each thread that
//! ever encoded one, although a scraper comes every few seconds and for ever. So the memory of one page
//! is kept, whichever thread encodes the next.

use std::mem;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// The text of a page. Its memory serves the next page when it is dropped.
#[derive(Debug)]
pub struct PageText {
    pub(super) text: String,
    spare: Spare,
}

impl Deref for PageText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl AsRef<[u8]> for PageText {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Drop for PageText {
    fn drop(&mut self) {
        let mut text = mem::take(&mut self.text);
        // After a reload there may be fewer spokes.
        if text.capacity() / 4 > text.len() {
            return;
        }
        text.clear();
        let mut kept = self.spare.lock();
        if text.capacity() > kept.capacity() {
            *kept = text;
        }
    }
}

/// The memory of a page that was sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Spare(Arc<Mutex<String>>);

impl Spare {
    /// An empty page with room for so many bytes, in this memory unless another page has it.
    pub(super) fn page(&self, bytes: usize) -> PageText {
        let mut text = mem::take(&mut *self.lock());
        text.reserve(bytes);
        PageText {
            text,
            spare: self.clone(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, String> {
        // Nothing under the lock can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(spare: &Spare, bytes: usize) -> PageText {
        let mut page = spare.page(bytes);
        page.text.extend(std::iter::repeat_n('x', bytes));
        page
    }

    #[test]
    fn the_memory_of_a_page_serves_the_next_one() {
        let spare = Spare::default();
        let first = page_of(&spare, 10_000);
        let place = first.as_ptr();
        drop(first);
        let next = page_of(&spare, 9_000);
        assert_eq!(next.as_ptr(), place);
        // A page at the same time has memory of its own, and only one is kept.
        let other = page_of(&spare, 5_000);
        assert_ne!(other.as_ptr(), place);
        drop(other);
        drop(next);
        assert_eq!(page_of(&spare, 1).as_ptr(), place);
    }

    #[test]
    fn memory_for_many_more_spokes_is_given_back() {
        let spare = Spare::default();
        drop(page_of(&spare, 10_000));
        drop(page_of(&spare, 100));
        assert_eq!(spare.page(0).text.capacity(), 0);
    }
}
