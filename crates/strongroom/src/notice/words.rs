//! What a notice says to people: the same on the page, in webhooks and in e-mail.

use jiff::Timestamp;
use strongroom_keys::Code;

use super::{Kind, Notice};

/// A notice in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// What happened: one line, the vault's name first.
    pub title: String,
    /// What it means, and what to do.
    pub more: String,
}

/// `notice` in words, as seen `now`.
pub fn words(notice: &Notice, now: Timestamp) -> Words {
    let vault = match (notice.vault, notice.vault_name.as_str()) {
        (None, _) => String::new(),
        (Some(_), "") => "A vault that is gone: ".to_owned(),
        (Some(_), name) => format!("{name}: "),
    };
    let (what, more) = match notice.kind {
        Kind::KeyUnhealthy => (
            Code::of(&notice.code).map_or("Key unavailable", |code| code.state().label()).to_owned(),
            match notice.over_at {
                Some(_) => "It is over: the key answers again.".to_owned(),
                None => format!(
                    "{}. Items of this vault cannot be read or changed until the key answers again; nothing is lost. \
                     The vault's page names the cause and the command that mends it.",
                    title_of(&notice.code)
                ),
            },
        ),
        Kind::KeyHealthy => (
            "the key answers again".to_owned(),
            "Everything of this vault can be read and changed as before.".to_owned(),
        ),
        Kind::CredentialExpiring => (
            format!("the {} {}", credential(&notice.code), ends(notice.until, now)),
            "After that nobody can read this vault's items. Make a new one in Microsoft Entra ID and replace it on the vault's page.".to_owned(),
        ),
        Kind::KeyExpiring => (
            format!("the newest key version {}", ends(notice.until, now)),
            "Items can still be read and written after that, but no new vault key can be wrapped: rotation and rewrap stop. Make a new key version in Key Vault, then rewrap.".to_owned(),
        ),
        Kind::KeyNewVersion => (
            format!("the key has a newer key version, {}", notice.code),
            "The vault key is still wrapped under the older one. Rewrap it before you disable that.".to_owned(),
        ),
        Kind::PurgeProtectionOff => (
            "purge protection of the Key Vault is off".to_owned(),
            "Whoever may purge there can destroy the key for ever, and this vault's items with it. Switch purge protection on.".to_owned(),
        ),
        Kind::RightsTooWide => (
            "the service principal may do more than it needs".to_owned(),
            "It needs to read the key, wrap and unwrap. Give it the role Key Vault Crypto Service Encryption User on the one key. The vault's checks name what is too much.".to_owned(),
        ),
        Kind::VaultLeft => (
            "items are leaving this vault for one whose key is this server's, or another tenant's".to_owned(),
            "They can no longer be withdrawn by disabling this vault's key. Activity says who started it.".to_owned(),
        ),
        Kind::ExportedReadable => (
            format!("items were exported as readable {}", notice.code.to_uppercase()),
            "Whoever gets the file reads them, whatever happens to this vault's key. Activity says who made it, and which items are in it.".to_owned(),
        ),
        Kind::JobFinished => (format!("{} is done", job(&notice.code)), "The vault's page has the account.".to_owned()),
        Kind::LogSetBack => (
            "the database was set back behind the server's back".to_owned(),
            format!(
                "A checkpoint of the audit log that was kept elsewhere covers {} events that the database does not have. \
                 What they told of may be undone. strongroom audit verify --state --checkpoint, on the server, says more.",
                notice.code
            ),
        ),
        Kind::LogStopped => (
            "the audit log stands still".to_owned(),
            format!(
                "What happens now is recorded, and gets no place in the signed log ({}). strongroom audit verify --state, on \
                 the server, says what is wrong; the server's log has the cause.",
                notice.code
            ),
        ),
        Kind::JobFailed => {
            (format!("{} did not do all of it", job(&notice.code)), "The vault's page says what is left, and why.".to_owned())
        }
    };
    Words { title: format!("{vault}{what}"), more }
}

fn title_of(code: &str) -> &'static str {
    Code::of(code).map_or("The key cannot be used", |code| code.title())
}

fn credential(code: &str) -> &'static str {
    match code {
        "certificate" => "client certificate",
        "secret" => "client secret",
        _ => "credential",
    }
}

fn job(code: &str) -> &'static str {
    match code {
        "rewrap" => "rewrapping the vault key",
        "rotate" => "rotating the vault key",
        "reencrypt" => "re-encrypting the items",
        "move" => "moving items",
        _ => "a job",
    }
}

/// "expires on 21 Nov 2026, in 6 days".
fn ends(until: Option<Timestamp>, now: Timestamp) -> String {
    let Some(until) = until else { return "expires soon".to_owned() };
    let day = until.strftime("%-d %b %Y");
    match until.duration_since(now).as_hours() {
        ..0 => format!("expired on {day}"),
        0..24 => format!("expires on {day}, within a day"),
        hours if hours < 48 => format!("expires on {day}, in 1 day"),
        hours => format!("expires on {day}, in {} days", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{NoticeId, VaultId, WorkspaceId},
        notice::Severity,
    };

    fn notice(kind: Kind, code: &str) -> Notice {
        let until = "2026-11-30T12:00:00Z".parse().expect("a time");
        Notice {
            id: NoticeId(uuid::Uuid::nil()),
            workspace: WorkspaceId(uuid::Uuid::nil()),
            kind,
            severity: Severity::Warning,
            code: code.into(),
            vault: Some(VaultId(uuid::Uuid::nil())),
            vault_name: "Finance".into(),
            job: None,
            until: Some(until),
            at: until,
            over_at: None,
            read: false,
        }
    }

    #[test]
    fn an_end_is_said_with_its_day_and_how_long_that_is() {
        let at = |now: &str| words(&notice(Kind::CredentialExpiring, "secret"), now.parse().expect("a time")).title;
        assert_eq!(at("2026-11-23T12:00:00Z"), "Finance: the client secret expires on 30 Nov 2026, in 7 days");
        assert_eq!(at("2026-11-29T11:00:00Z"), "Finance: the client secret expires on 30 Nov 2026, in 1 day");
        assert_eq!(at("2026-11-30T11:00:00Z"), "Finance: the client secret expires on 30 Nov 2026, within a day");
        assert_eq!(at("2026-12-02T11:00:00Z"), "Finance: the client secret expired on 30 Nov 2026");
    }

    #[test]
    fn every_kind_has_words_and_a_code_of_another_build_has_some_too() {
        let now = "2026-11-23T12:00:00Z".parse().expect("a time");
        for kind in Kind::ALL {
            let said = words(&notice(kind, "something.new"), now);
            assert!(
                said.title.starts_with("Finance: ") && said.title.len() > 15 && said.more.ends_with('.'),
                "{said:?}"
            );
        }
        assert_eq!(words(&notice(Kind::KeyUnhealthy, "key.disabled"), now).title, "Finance: Key disabled");
    }
}
