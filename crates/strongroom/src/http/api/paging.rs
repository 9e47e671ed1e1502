//! Cursors: where the next page begins, in a form that nobody is tempted to take apart.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::types::{Page, PageQuery};
use crate::error::{Error, Result};

const DEFAULT_LIMIT: u16 = 50;
const MAX_LIMIT: u16 = 200;
/// Before the number of entries to leave out. Whoever changes what a cursor holds, changes it.
const FORM: u8 = 1;

/// How many entries to leave out, and how many to give.
pub struct Window {
    pub skip: usize,
    pub limit: usize,
}

impl Window {
    /// As a query asks for it: the first 50 without one.
    pub fn of(cursor: Option<&str>, limit: Option<u16>) -> Result<Self> {
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Error::field("limit", format!("From 1 to {MAX_LIMIT}.")));
        }
        let skip = cursor.map_or(Some(0), read).ok_or_else(|| {
            Error::field("cursor", "No list gave out this cursor; leave it out to start from the beginning.")
        })?;
        Ok(Self { skip, limit: limit.into() })
    }

    /// The cursor of the page after this one, if there are entries left of `total`.
    pub fn next(&self, total: usize) -> Option<String> {
        let end = self.skip.saturating_add(self.limit);
        (end < total).then(|| {
            let number = u64::try_from(end).expect("a list's length fits");
            BASE64_URL_SAFE_NO_PAD.encode([&[FORM][..], &number.to_be_bytes()].concat())
        })
    }
}

/// One page of a list that is at hand whole.
pub fn page<T, U>(query: &PageQuery, all: Vec<T>, show: impl FnMut(T) -> U) -> Result<Page<U>> {
    let window = Window::of(query.cursor.as_deref(), query.limit)?;
    let next_cursor = window.next(all.len());
    let items = all.into_iter().skip(window.skip).take(window.limit).map(show).collect();
    Ok(Page { items, next_cursor })
}

fn read(cursor: &str) -> Option<usize> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (form, number) = bytes.split_first()?;
    let number = u64::from_be_bytes(number.try_into().ok()?);
    (*form == FORM).then_some(())?;
    usize::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_give_every_entry_once() {
        let (mut cursor, mut seen) = (None, Vec::new());
        loop {
            let query = PageQuery { cursor, limit: Some(3) };
            let found = page(&query, (0..8).collect(), |entry: u8| entry).expect("a page");
            assert!(found.items.len() <= 3);
            seen.extend(found.items);
            cursor = found.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn a_cursor_or_limit_that_nobody_gave_is_refused() {
        for cursor in ["", "1", "AAAAAAAAAAAA", "AQAAAAAAAAAB\u{e4}", "AQAAAAAAAAABAA"] {
            assert!(Window::of(Some(cursor), None).is_err(), "{cursor}");
        }
        assert!(Window::of(None, Some(0)).is_err() && Window::of(None, Some(201)).is_err());
        // The largest number that a cursor can hold leaves nothing over, and nothing overflows.
        let all = BASE64_URL_SAFE_NO_PAD.encode([&[FORM][..], &u64::MAX.to_be_bytes()].concat());
        assert_eq!(Window::of(Some(&all), None).expect("read").next(9), None);
    }
}
