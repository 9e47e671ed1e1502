//! Activity: the audit log as sentences.

use std::collections::HashMap;

use axum::response::Response;
use jiff::{Timestamp, civil::Date};

use super::{
    views::{
        Choice, Pager, Section, Shell, Shown, Tone,
        activity::{ActivityPage, EventRow, Target as Aimed},
    },
    visit::{Names, Visit},
    words,
};
use crate::{
    access::{Action, Role, Target as Aim},
    audit::{Actor, AuditFilter, Entry, Event, Fact, Outcome, Target, word},
    error::Result,
    id::{ItemId, MemberId},
    secret_text::SecretText,
};

/// What the filter offers: an action, or a family of them.
const FAMILIES: [(&str, &str); 10] = [
    ("item.reveal", "Reveals"),
    ("item.", "Items, all of it"),
    ("item.take_over", "Take-overs"),
    ("export.", "Exports"),
    ("key.", "Keys in use"),
    ("vault.", "Vaults"),
    ("member.", "Members"),
    ("session.", "Sign-ins"),
    ("signin.failed", "Failed sign-ins"),
    ("access.refused", "Refusals"),
];

pub async fn list(visit: Visit) -> Result<Response> {
    let (from, to) = (day(visit.asked("from")), day(visit.asked("to")));
    let midnight = |day: Date| format!("{day}T00:00:00Z").parse::<Timestamp>().ok();
    let filter = AuditFilter {
        action: Some(visit.asked("action").to_owned()).filter(|action| !action.is_empty()),
        actor: visit.asked("actor").parse::<MemberId>().ok(),
        target: visit.asked("vault").parse().ok(),
        from: from.and_then(midnight),
        to: to.and_then(|day| day.tomorrow().ok()).and_then(midnight),
        outcome: None,
    };
    let cursor = Some(visit.asked("cursor")).filter(|cursor| !cursor.is_empty());
    let page = visit.app.audit_page(&visit.caller, filter, cursor, 0).await?;
    let shell = visit.item_shell("Activity", Section::Activity, visit.path.clone()).await?;
    let names = visit.names().await?;
    let items: Vec<ItemId> = page.entries.iter().filter_map(|entry| item_of(&entry.event)).collect();
    let titles = visit.app.titles(&visit.caller, &items).await?;
    let words = Resolved { visit: &visit, shell: &shell, names: &names, titles, now: visit.app.clock.now() };
    let rows = page.entries.into_iter().map(|entry| words.row(entry)).collect();
    let kept = ["actor", "action", "vault", "from", "to"];
    let next = page.next_cursor.map(|cursor| {
        let kept = kept.map(|name| format!("{name}={}", words::in_query(visit.asked(name))));
        format!("/activity?{}&cursor={}", kept.join("&"), words::in_query(&cursor))
    });
    let template = ActivityPage {
        rows,
        broken: page.broken.len() as u64,
        actors: actors(&visit).await?,
        actions: choices(&visit, "action", "Everything", FAMILIES.map(|(value, label)| (value.into(), label.into()))),
        vaults: choices(
            &visit,
            "vault",
            "All",
            shell.vaults.iter().map(|vault| (vault.id.clone(), vault.name.clone())),
        ),
        from: from.map(|day| day.to_string()).unwrap_or_default(),
        to: to.map(|day| day.to_string()).unwrap_or_default(),
        pager: Pager {
            range: if next.is_some() || cursor.is_some() { "50 a page".into() } else { String::new() },
            previous: cursor.map(|_| "/activity".into()),
            next,
        },
        filtered: kept.iter().any(|name| !visit.asked(name).is_empty()),
        shell,
    };
    visit.page(template)
}

async fn actors(visit: &Visit) -> Result<Vec<Choice>> {
    let members = visit.app.members(&visit.caller).await?;
    let members = members.into_iter().map(|member| (member.id.to_string(), member.name));
    Ok(choices(visit, "actor", "Everybody", members))
}

fn choices(visit: &Visit, name: &str, any: &str, all: impl IntoIterator<Item = (String, String)>) -> Vec<Choice> {
    let rest = all.into_iter().map(|(value, label)| Choice::new(value.clone(), label, visit.asked(name) == value));
    [Choice::new("", any, false)].into_iter().chain(rest).collect()
}

/// `2026-11-23`, as a date field sends it.
fn day(text: &str) -> Option<Date> {
    text.parse().ok()
}

fn item_of(event: &Event<String>) -> Option<ItemId> {
    match event.target {
        Target::Item(id) => Some(id),
        _ => None,
    }
}

/// What turns ids into names for this reader.
struct Resolved<'a> {
    visit: &'a Visit,
    shell: &'a Shell,
    names: &'a Names,
    titles: HashMap<ItemId, SecretText>,
    now: Timestamp,
}

impl Resolved<'_> {
    fn row(&self, entry: Entry) -> EventRow {
        let event = entry.event;
        let (icon, done) = sentence(&event.action);
        let outcome = word(&event.action).map_or(Outcome::Done, |word| word.outcome);
        let tone = match (event.action.as_str(), outcome) {
            ("key.denied", _) => Tone::Night,
            ("item.take_over", _) | (_, Outcome::Refused) => Tone::Warn,
            (_, Outcome::Failed) => Tone::Bad,
            (_, Outcome::Done) => Tone::Plain,
        };
        EventRow {
            id: event.id.to_string(),
            at: words::moment(self.now, event.at),
            actor: match event.actor {
                Actor::System => "Strongroom".into(),
                Actor::Anonymous => "Somebody not signed in".into(),
                Actor::Session(member, _) => self.who(member),
                Actor::Token(member, _) => format!("{}, by API token,", self.who(member)),
            },
            what: self.told(done, &event),
            icon,
            tone,
            target: self.target(&event),
            address: text(&event, "address"),
            azure_request_id: text(&event, "azure_request"),
            action: event.action,
        }
    }

    fn who(&self, member: MemberId) -> String {
        let name = self.names.of(member);
        if name == "you" { "You".into() } else { name }
    }

    /// The sentence with the numbers and names among the facts.
    fn told(&self, done: &str, event: &Event<String>) -> String {
        let mut told = done.to_owned();
        if let Some(Fact::Number(count)) = event.fact("count") {
            told = told.replace("{count} items", &crate::counted::counted(*count, "item"));
        }
        if let Some(Fact::Id(member)) = event.fact("member") {
            told = told.replace("{member}", &self.names.of(MemberId(*member)));
        }
        let format = text(event, "format").unwrap_or_default().replace('_', " ");
        told = told.replace("{format}", &format);
        for name in ["role", "wanted", "code", "kind"] {
            told = told.replace(&format!("{{{name}}}"), &text(event, name).unwrap_or_default());
        }
        told
    }

    fn target(&self, event: &Event<String>) -> Option<Aimed> {
        match event.target {
            Target::Item(id) => Some(match self.titles.get(&id) {
                Some(title) => Aimed { text: title.expose().into(), url: Some(format!("/items/{id}")), is_id: false },
                // Dark, or not shared with the reader: an id, and for those who may, the way to take it over.
                None => Aimed {
                    text: Shown::from(id.to_string()),
                    url: self
                        .visit
                        .caller
                        .may(Action::TakeOverItem, Aim::Item(None))
                        .then(|| format!("/items/{id}/take-over")),
                    is_id: true,
                },
            }),
            Target::Vault(id) => {
                let name = Visit::vault_name(self.shell, id);
                Some(Aimed { text: name.into(), url: Some(format!("/settings/vaults/{id}")), is_id: false })
            }
            Target::Member(id) => {
                let manages =
                    Role::ALL.into_iter().any(|role| self.visit.caller.may(Action::ChangeRole, Aim::Member(role)));
                let url = manages.then(|| format!("/members/{id}"));
                Some(Aimed { text: self.names.of(id).into(), url, is_id: false })
            }
            Target::None | Target::Workspace(_) | Target::Session(_) | Target::Token(_) => None,
        }
    }
}

fn text(event: &Event<String>, name: &str) -> Option<String> {
    match event.fact(name) {
        Some(Fact::Text(text)) => Some(text.clone()),
        _ => None,
    }
}

/// An icon, and what was done, before the name of what it was done to.
fn sentence(action: &str) -> (&'static str, &'static str) {
    match action {
        "server.start" => ("info", "started"),
        "server.stop" => ("info", "stopped"),
        "access.refused" => ("ban", "was refused: {wanted}"),
        "log.origin" => ("scroll-text", "began a new name of the audit log"),
        "log.stopped" => ("triangle-alert", "could not take the audit log further"),
        "log.set_back" => ("triangle-alert", "found that the database was set back"),
        "audit.export" => ("scroll-text", "exported {count} events of the audit log"),
        "audit.read" => ("scroll-text", "read Activity"),
        "workspace.create" => ("settings", "made the workspace"),
        "workspace.settings" => ("settings", "changed the workspace’s settings"),
        "member.add" => ("users", "invited"),
        "member.join" => ("users", "joined:"),
        "member.role" => ("users", "gave the role {role} to"),
        "member.profile" => ("users", "changed the profile of"),
        "member.password" => ("lock", "set a new password for"),
        "member.code" => ("smartphone", "changed the second step of"),
        "member.remove" => ("users", "removed"),
        "member.link" => ("link", "made a one-time link for"),
        "setup.link" => ("link", "made the link to set up the workspace"),
        "signin.failed" => ("circle-alert", "failed to sign in"),
        "session.create" => ("monitor", "signed in"),
        "session.refresh" => ("monitor", "signed in again"),
        "session.revoke" | "session.revoke_others" => ("log-out", "signed out"),
        "token.create" => ("terminal", "made an API token"),
        "token.revoke" => ("terminal", "revoked an API token"),
        "vault.create" => ("vault", "created the vault"),
        "vault.edit" => ("vault", "changed the vault"),
        "vault.key_vault" => ("key-round", "changed the Key Vault of"),
        "vault.delete" => ("trash-2", "deleted the vault"),
        "vault.default" => ("star", "made this the default vault:"),
        "vault.check" => ("refresh-cw", "checked the key of"),
        "credential.replace" => ("key-round", "replaced the credential of"),
        "credential.end" => ("key-round", "noted when the credential ends of"),
        "credential.drop" => ("key-round", "let the previous credential go of"),
        "key.intent" => ("key-round", "announced requests to a Key Vault"),
        "key.create" => ("key-round", "wrapped a first vault key of"),
        "key.unwrap" => ("key-round", "had the vault key unwrapped of"),
        "key.rewrap" => ("refresh-cw", "wrapped the vault key under a newer key version, of"),
        "key.wrap_dropped" => ("trash-2", "dropped a wrap that was superseded, of"),
        "key.rotate" => ("refresh-cw", "rotated the vault key of"),
        "key.data_keys" => ("refresh-cw", "rewrapped data keys of"),
        "key.retire" => ("trash-2", "retired an old generation of"),
        "key.new_version" => ("key-round", "saw a newer key version at the provider, for"),
        "key.denied" => ("moon", "was denied the key of"),
        "key.outage" => ("unplug", "could not reach the key of"),
        "key.fault" => ("triangle-alert", "got a wrong answer from the key of"),
        "key.restored" => ("circle-check", "may use the key again of"),
        "item.create" => ("plus", "created"),
        "item.edit" => ("pencil", "edited"),
        "item.restore_revision" => ("rotate-ccw", "restored an older revision of"),
        "item.move" => ("rotate-ccw", "moved to another vault:"),
        "item.reencrypt" => ("refresh-cw", "re-encrypted"),
        "item.trash" => ("trash-2", "moved to the trash:"),
        "item.untrash" => ("rotate-ccw", "restored from the trash:"),
        "item.purge" => ("trash-2", "deleted for good:"),
        "item.view" => ("eye", "viewed"),
        "item.reveal" => ("eye", "revealed"),
        "item.reveal_failed" => ("eye-off", "could not reveal ({code})"),
        "item.export" => ("download", "exported"),
        "export.start" => ("download", "began to export {count} items as {format} from"),
        "export.finish" => ("download", "finished an export of {count} items"),
        "export.stop" => ("circle-x", "was stopped ({code}) in an export, after {count} items"),
        "item.list" => ("list-tree", "listed {count} items"),
        "item.search" => ("search", "searched {count} items"),
        "item.grant" => ("share-2", "gave {member} the role {role} to"),
        "item.ungrant" => ("share-2", "took the role of {member} away from"),
        "item.take_over" => ("crown", "took over"),
        "job.start" => ("refresh-cw", "began the job {kind} on"),
        "job.pause" => ("refresh-cw", "paused the job {kind} on"),
        "job.resume" => ("refresh-cw", "resumed the job {kind} on"),
        "job.cancel" => ("circle-x", "cancelled the job {kind} on"),
        "job.finish" => ("circle-check", "finished the job {kind} on"),
        "webhook.create" => ("link", "added a webhook to"),
        "webhook.delete" => ("link", "removed a webhook of"),
        "webhook.test" => ("link", "tried a webhook of"),
        "backup.create" => ("download", "made a backup"),
        "backup.retire" => ("trash-2", "retired a backup"),
        "backup.restore" => ("rotate-ccw", "restored a backup"),
        "instance_key.rotate" => ("rotate-ccw", "brought {count} rows under a new instance key"),
        "instance_key.reanchor" => ("triangle-alert", "went on with a new instance key, without the one that was lost"),
        "instance_key.retire" => ("trash-2", "retired an old instance key"),
        "vault.reseal" => ("rotate-ccw", "brought under a new instance key"),
        "member.reseal" => ("rotate-ccw", "brought under a new instance key the second factor of"),
        "import.finish" => ("plus", "finished an import"),
        _ => ("info", "did"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::VOCABULARY;

    #[test]
    fn every_action_has_a_sentence() {
        for word in VOCABULARY {
            assert_ne!(sentence(word.action).1, "did", "{}", word.action);
        }
    }
}
