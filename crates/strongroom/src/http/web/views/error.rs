//! Pages for when something did not work: what happened, why, what to do.

use askama::Template;

use super::{DarkPanel, Theme, filters};

/// Any error, signed in or not. It shows no navigation, because what failed may be what would fill it.
#[derive(Template)]
#[template(path = "error.html")]
pub struct ErrorPage {
    pub theme: Theme,
    pub status: u16,
    pub title: String,
    pub what: String,
    pub why: String,
    pub what_to_do: Vec<String>,
    /// Where the button goes, and what it says.
    pub back: (String, String),
    /// To find it in the server's log.
    pub request_id: String,
    /// For 423 and 503 of a vault.
    pub dark: Option<DarkPanel>,
}

impl ErrorPage {
    /// The words for an HTTP status; a handler that knows more replaces `why` and `what_to_do`.
    pub fn of(status: u16, request_id: impl Into<String>) -> Self {
        let (title, what, why, what_to_do) = words(status);
        Self {
            theme: Theme::System,
            status,
            title: title.into(),
            what: what.into(),
            why: why.into(),
            what_to_do: what_to_do.iter().map(|&text| text.to_owned()).collect(),
            back: ("/".into(), "Go to the dashboard".into()),
            request_id: request_id.into(),
            dark: None,
        }
    }
}

type Words = (&'static str, &'static str, &'static str, &'static [&'static str]);

fn words(status: u16) -> Words {
    match status {
        400 | 422 => (
            "That did not fit",
            "The server could not read what was sent.",
            "A field is missing, too long, or not of the expected form.",
            &["Go back, look at the marked fields, and send the form again."],
        ),
        401 => (
            "This link works no more",
            "It was used, replaced by a newer one, or is too old.",
            "Such links work once and for a short time.",
            &["Ask for a new one."],
        ),
        403 => (
            "Not allowed",
            "You are signed in, but your role does not allow this.",
            "Vaults, settings, members and the activity log are for the Owner, Super Admins and Admins. Items are for those they are shared with.",
            &["Ask the owner of the item to share it with you.", "Ask an Admin of the workspace to do it."],
        ),
        404 => (
            "Not found",
            "There is nothing here that you can see.",
            "It was deleted, it never existed, or nobody has shared it with you. For your protection the three look alike.",
            &["Check the address.", "Look into the trash.", "Ask whoever sent you the link to share the item."],
        ),
        412 => (
            "Someone was faster",
            "The item changed after you opened it.",
            "Another person saved a newer revision, and yours would have overwritten it.",
            &["Go back, load the item again, and repeat your change."],
        ),
        413 => (
            "Too large",
            "What was sent is larger than the server takes.",
            "A field may hold up to 100 KiB, an item 1 MiB, and a form 2 MiB.",
            &["Shorten the text, or keep large files elsewhere and their key here."],
        ),
        423 => (
            "This vault is dark",
            "Its key does not open it at the moment.",
            "Azure refuses the key. Strongroom asks again every 5 seconds.",
            &["Nothing is lost. The panel says who can mend it, and how."],
        ),
        429 => (
            "Too many attempts",
            "The server takes no more of these requests for the moment.",
            "Attempts are counted by account and by address, so that nobody can guess passwords.",
            &["Wait a minute, then try once more."],
        ),
        405 => (
            "Nothing to see at this address",
            "The address belongs to a form, and cannot be opened by itself.",
            "It was typed, shortened or bookmarked, or a form was sent to the wrong place. Nothing was changed.",
            &["Go back to the page with the form, and use it from there."],
        ),
        409 => (
            "That is not possible now",
            "A rule of the workspace stands against it.",
            "Something else has to happen first, or somebody else was faster.",
            &["Look at the page again."],
        ),
        503 => (
            "Not available right now",
            "The server could not reach something that it needs.",
            "Azure or the database did not answer in time. Nothing was changed.",
            &["Try again in a moment.", "If it lasts, tell whoever runs this server."],
        ),
        _ => (
            "Something broke",
            "The server could not finish this. What it could not finish it did not begin to save.",
            "This is a fault in Strongroom or in its surroundings, not in what you did.",
            &["Try once more.", "If it happens again, give the request id to whoever runs this server."],
        ),
    }
}
