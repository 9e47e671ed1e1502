//! From values to the reader's words: times, states of vaults, and a rendered page as an answer.

use askama::Template;
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::views::{Cause, Choice, DarkPanel, Moment, VaultState};
use crate::{
    access::{ItemRole, Role},
    counted::counted,
    error::{Error, KeyUnavailable, Result},
    vault::Health,
};

/// What most pages need at once: growing would leave copies of what is on them behind.
const PAGE_SIZE: usize = 128 * 1024;
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A rendered page. Its bytes are wiped once they are sent.
pub fn page(status: StatusCode, template: impl Template) -> Result<Response> {
    let mut html = Zeroizing::new(String::with_capacity(PAGE_SIZE));
    template.render_into(&mut *html).map_err(|error| Error::Setup {
        what: format!("a page did not render: {error}").into(),
        fix: "This is a defect of Strongroom; report it.".into(),
    })?;
    let bytes = Bytes::from_owner(Zeroizing::new(std::mem::take(&mut *html).into_bytes()));
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    Ok(response)
}

/// `text` as a value in a query.
pub fn in_query(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// A point in time as people say it: "3 minutes ago", "in 2 days", "21 Nov 2026, 14:03 UTC".
pub fn moment(now: Timestamp, at: Timestamp) -> Moment {
    let seconds = now.duration_since(at).as_secs();
    let (amount, past) = (seconds.unsigned_abs(), seconds >= 0);
    let spoken = match amount {
        0..10 if past => return said(at, "just now".into()),
        0..60 => counted(amount, "second"),
        60..3600 => counted(amount / 60, "minute"),
        3600..86_400 => counted(amount / 3600, "hour"),
        86_400..1_209_600 => counted(amount / 86_400, "day"),
        _ => return day(at),
    };
    said(at, if past { format!("{spoken} ago") } else { format!("in {spoken}") })
}

/// A point in time after the word "since": "14:03:21 UTC, 21 Nov".
pub fn since(at: Timestamp) -> Moment {
    said(at, at.strftime("%H:%M:%S UTC, %-d %b").to_string())
}

/// A point in time to the second: "21 Nov 2026, 14:03:21 UTC".
pub fn exact(at: Timestamp) -> Moment {
    said(at, at.strftime("%-d %b %Y, %H:%M:%S UTC").to_string())
}

/// A day: "21 Nov 2026".
pub fn day(at: Timestamp) -> Moment {
    said(at, at.strftime("%-d %b %Y").to_string())
}

fn said(at: Timestamp, text: String) -> Moment {
    Moment { iso: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), text }
}

/// A vault's health as pages show it.
pub fn state(health: &Health) -> VaultState {
    match health {
        Health::Healthy(Some(_)) => VaultState::Healthy,
        Health::Healthy(None) => VaultState::Checking,
        Health::Unavailable(why) => VaultState::Stopped(Cause::new(why.class, &why.code)),
    }
}

/// A panel in place of so many items of a vault.
pub fn panel(why: &KeyUnavailable, items: u64) -> DarkPanel {
    DarkPanel::of(why, items, since(why.since), why.recoverable_until.map(day))
}

/// The workspace roles that `fits` allows, for a drop-down.
pub fn roles(chosen: Role, fits: impl Fn(Role) -> bool) -> Vec<Choice> {
    let fitting = Role::ALL.into_iter().rev().filter(|role| fits(*role));
    fitting.map(|role| Choice::new(role.word(), role.title(), role == chosen)).collect()
}

pub fn item_role(word: &str) -> Result<ItemRole> {
    word.parse().map_err(|()| Error::field("role", "Choose Owner, Editor or Viewer."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let now: Timestamp = "2026-11-23T14:00:00Z".parse().expect("a time");
        let text = |seconds: i64| moment(now, now - jiff::SignedDuration::from_secs(seconds)).text;
        assert_eq!(
            [text(3), text(30), text(60), text(7200)],
            ["just now", "30 seconds ago", "1 minute ago", "2 hours ago"]
        );
        assert_eq!([text(-1), text(-172_800), text(86_400 * 20)], ["in 1 second", "in 2 days", "3 Nov 2026"]);
        assert_eq!(since(now).text, "14:00:00 UTC, 23 Nov");
        assert_eq!(since(now).iso, "2026-11-23T14:00:00Z");
    }

    #[test]
    fn a_path_survives_a_query() {
        assert_eq!(in_query("/items?vault=a b&c"), "/items%3Fvault%3Da%20b%26c");
    }
}
