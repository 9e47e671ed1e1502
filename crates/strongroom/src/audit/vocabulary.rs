//! Every action that an event can name, with its facts. docs/format.md repeats this table; a test holds the two
//! together, and in debug builds an event that is not of this table does not get written.
//!
//! State verification reads these facts. Whoever changes a row that it compares records an event that says so here.

use super::{Event, Fact};

/// One action.
#[derive(Debug, PartialEq, Eq)]
pub struct Word {
    pub action: &'static str,
    pub outcome: Outcome,
    /// What its target is; a word of `Target`, several with a space between.
    pub target: &'static str,
    pub facts: &'static [(&'static str, FactKind)],
}

/// How what an event tells of went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Done,
    /// The permission table, or the check of a password or code, said no.
    Refused,
    /// It was allowed and went wrong.
    Failed,
}

/// What kind of value a fact is, and whether it may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactKind {
    Text,
    Number,
    Id,
    /// 32 bytes: a digest or a commitment.
    Digest,
    /// Text, when there is one.
    MaybeText,
    /// A number, when there is one.
    MaybeNumber,
    /// An id, when there is one.
    MaybeId,
}

/// The entry of an action.
pub fn word(action: &str) -> Option<&'static Word> {
    VOCABULARY.iter().find(|word| word.action == action)
}

/// Whether `event` has the target and the facts that its action demands, and no others; if not, what is wrong.
pub(super) fn check<W: AsRef<str>>(event: &Event<W>) -> Result<(), String> {
    let action = event.action.as_ref();
    let word = word(action).ok_or_else(|| format!("{action} is not in the vocabulary"))?;
    let target = event.target.parts().0;
    if !word.target.split(' ').any(|known| known == target) {
        return Err(format!("{action} has the target {target} instead of {}", word.target));
    }
    for (name, kind) in word.facts {
        if event.detail.iter().filter(|(known, _)| known.as_ref() == *name).count() > 1 {
            return Err(format!("{action} has {name} twice"));
        }
        match event.fact(name) {
            Some(fact) if !kind.takes(fact) => return Err(format!("{action}: {name} is not {}", kind.word())),
            None if !kind.may_be_absent() => return Err(format!("{action} lacks {name}")),
            _ => {}
        }
    }
    let unknown = |name: &str| word.facts.iter().all(|(known, _)| *known != name);
    match event.detail.iter().find(|(name, _)| unknown(name.as_ref())) {
        Some((name, _)) => Err(format!("{action} has no fact {}", name.as_ref())),
        None => Ok(()),
    }
}

impl FactKind {
    fn takes(self, fact: &Fact) -> bool {
        match fact {
            Fact::Text(_) => matches!(self, Self::Text | Self::MaybeText),
            Fact::Number(_) => matches!(self, Self::Number | Self::MaybeNumber),
            Fact::Id(_) => matches!(self, Self::Id | Self::MaybeId),
            Fact::Bytes(bytes) => matches!(self, Self::Digest) && bytes.len() == 32,
        }
    }

    fn may_be_absent(self) -> bool {
        matches!(self, Self::MaybeText | Self::MaybeNumber | Self::MaybeId)
    }

    /// As docs/format.md writes it.
    fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Id => "id",
            Self::Digest => "digest",
            Self::MaybeText => "text?",
            Self::MaybeNumber => "number?",
            Self::MaybeId => "id?",
        }
    }
}

impl Outcome {
    /// As docs/format.md writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Word {
    /// Its row in docs/format.md.
    #[cfg(test)]
    pub(super) fn row(&self) -> String {
        let facts: Vec<_> = self.facts.iter().map(|(name, kind)| format!("`{name}` {}", kind.word())).collect();
        let facts = if facts.is_empty() { "–".to_owned() } else { facts.join(", ") };
        format!("| `{}` | {} | {} | {facts} |", self.action, self.target, self.outcome.word())
    }
}

use FactKind::{Digest, Id, MaybeId, MaybeNumber, MaybeText, Number, Text};
use Outcome::{Done, Failed, Refused};

type Facts = &'static [(&'static str, FactKind)];

/// Everything about a member that somebody could gain by changing: the same in each event that makes or changes one.
const GRANT: Facts = &[
    ("member", Id),
    ("role", Text),
    ("state", Text),
    ("revision", Number),
    ("email_digest", Digest),
    ("row_digest", Digest),
];
/// A revision that was written: where it lies, under which data key, and the commitments of both blobs.
const WRITTEN: Facts =
    &[("vault", Id), ("revision", Number), ("data_key", Id), ("overview", Digest), ("details", Digest)];
/// The same, by a job that sealed the revision anew.
const RESEALED: Facts =
    &[("vault", Id), ("revision", Number), ("data_key", Id), ("overview", Digest), ("details", Digest), ("job", Id)];
const WRAP: Facts = &[("generation", Number), ("kid", Text), ("wrap_digest", Digest), ("azure_request", MaybeText)];
/// Azure's ids of the three requests: `azure_unwrap` of the wrap before, `azure_request` of the new one, `azure_verify` of
/// its proof.
const REWRAP: Facts = &[
    ("generation", Number),
    ("kid", Text),
    ("wrap_digest", Digest),
    ("provider", Id),
    ("from", Text),
    ("azure_unwrap", MaybeText),
    ("azure_request", MaybeText),
    ("azure_verify", MaybeText),
];
const ROTATE: Facts = &[
    ("generation", Number),
    ("kid", Text),
    ("wrap_digest", Digest),
    ("provider", Id),
    ("policy_digest", Digest),
    ("azure_request", MaybeText),
    ("azure_verify", MaybeText),
];
const CREDENTIAL: Facts = &[("provider", Id), ("credential", Id), ("kind", Text), ("expires_at", MaybeNumber)];
const KEY_TROUBLE: Facts =
    &[("generation", Number), ("kid", Text), ("wrap_digest", Digest), ("code", Text), ("azure_request", MaybeText)];
const SETTINGS: Facts = &[("slug", Text), ("name_digest", Digest), ("external_keys", Number), ("require_code", Number)];
const REVISION: Facts = &[("revision", Number)];
const COUNT: Facts = &[("count", Number)];
const JOB_START: Facts =
    &[("job", Id), ("kind", Text), ("total", Number), ("target", MaybeId), ("whole", Number), ("weakens", Number)];
const JOB: Facts = &[("job", Id), ("kind", Text)];
const MEMBER: Facts = &[("member", Id)];
const BACKUP: Facts = &[("backup", Id)];
const WEBHOOK: Facts = &[("webhook", Id)];
const TOKEN: Facts = &[("member", Id), ("expires_at", Number), ("address", MaybeText), ("with", MaybeText)];

const fn to(action: &'static str, target: &'static str, outcome: Outcome, facts: Facts) -> Word {
    Word { action, outcome, target, facts }
}

/// The table.
pub static VOCABULARY: &[Word] = &[
    to("server.start", "none", Done, &[]),
    to("server.stop", "none", Done, &[]),
    to(
        "log.origin",
        "none",
        Done,
        &[("origin", Id), ("why", Text), ("size", Number), ("root", Digest), ("parent", MaybeId)],
    ),
    to("instance_key.rotate", "none", Done, &[("key", Text), ("from", Text), ("count", Number)]),
    to(
        "instance_key.retire",
        "none",
        Done,
        &[("key", Text), ("sessions", Number), ("tokens", Number), ("links", Number), ("codes", Number)],
    ),
    to(
        "instance_key.reanchor",
        "none",
        Done,
        &[
            ("key", Text),
            ("lost", Text),
            ("vaults", Number),
            ("closed", Number),
            ("events", Number),
            ("proven", Number),
        ],
    ),
    to("log.stopped", "none", Failed, &[("code", Text)]),
    to("log.set_back", "none", Failed, &[("origin", Text), ("pushed", Number), ("root", Digest), ("have", Number)]),
    to(
        "access.refused",
        "none workspace member vault item session token",
        Refused,
        &[("wanted", Text), ("role", Text), ("count", MaybeNumber)],
    ),
    to("audit.read", "workspace", Done, COUNT),
    to("audit.export", "workspace", Done, &[("count", Number), ("from", Number), ("to", Number)]),
    to("workspace.create", "workspace", Done, SETTINGS),
    to("workspace.settings", "workspace", Done, SETTINGS),
    to("member.add", "member", Done, GRANT),
    to("member.join", "member", Done, GRANT),
    to("member.role", "member", Done, GRANT),
    to("member.profile", "member", Done, GRANT),
    to("member.password", "member", Done, GRANT),
    to("member.code", "member", Done, GRANT),
    to("member.remove", "member", Done, GRANT),
    to("member.reseal", "member", Done, GRANT),
    to("member.link", "member", Done, MEMBER),
    to("setup.link", "none", Done, &[]),
    to("signin.failed", "none member", Refused, &[("count", Number), ("address", MaybeText), ("with", MaybeText)]),
    to(
        "session.create",
        "session",
        Done,
        &[("member", Id), ("expires_at", Number), ("address", Text), ("with", MaybeText)],
    ),
    to("session.refresh", "session", Done, &[("with", MaybeText)]),
    to("session.revoke", "session", Done, &[]),
    to("session.revoke_others", "member", Done, COUNT),
    to("token.create", "token", Done, TOKEN),
    to("token.revoke", "token", Done, &[]),
    to(
        "vault.create",
        "vault",
        Done,
        &[("strategy", Text), ("provider", Id), ("generation", Number), ("policy_digest", Digest), ("by", MaybeId)],
    ),
    to(
        "vault.edit",
        "vault",
        Done,
        &[
            ("renamed", Number),
            ("lease_seconds", MaybeNumber),
            ("state", MaybeText),
            ("may_leave", MaybeNumber),
            ("policy_digest", Digest),
        ],
    ),
    to("vault.key_vault", "vault", Done, &[("provider", Id), ("from", Id), ("policy_digest", Digest)]),
    to("vault.reseal", "vault", Done, &[("policy_digest", Digest)]),
    to("vault.delete", "vault", Done, &[("strategy", Text)]),
    to("vault.default", "vault", Done, &[]),
    to("vault.check", "workspace vault", Done, &[("failed", Number)]),
    to("credential.replace", "vault", Done, CREDENTIAL),
    to("credential.end", "vault", Done, CREDENTIAL),
    to("credential.drop", "vault", Done, CREDENTIAL),
    to("key.intent", "none", Done, &[("url", Text), ("random", Number), ("count", Number), ("key", Text)]),
    to("key.create", "vault", Done, WRAP),
    to(
        "key.unwrap",
        "vault",
        Done,
        &[
            ("generation", Number),
            ("kid", Text),
            ("wrap_digest", Digest),
            ("lease", MaybeId),
            ("request", MaybeId),
            ("ms", MaybeNumber),
            ("azure_request", MaybeText),
        ],
    ),
    to("key.rewrap", "vault", Done, REWRAP),
    to(
        "key.wrap_dropped",
        "vault",
        Done,
        &[("generation", Number), ("kid", Text), ("in_use", Text), ("azure_request", MaybeText)],
    ),
    to("key.rotate", "vault", Done, ROTATE),
    to("key.data_keys", "vault", Done, &[("generation", Number), ("count", Number)]),
    to("key.retire", "vault", Done, &[("generation", Number)]),
    to("key.new_version", "vault", Done, &[("kid", Text), ("in_use", Text)]),
    to("key.denied", "vault", Failed, KEY_TROUBLE),
    to("key.outage", "vault", Failed, KEY_TROUBLE),
    to("key.fault", "vault", Failed, KEY_TROUBLE),
    to("key.restored", "vault", Done, WRAP),
    to("item.create", "item", Done, WRITTEN),
    to("item.edit", "item", Done, WRITTEN),
    to("item.restore_revision", "item", Done, WRITTEN),
    to("item.move", "item", Done, RESEALED),
    to("item.reencrypt", "item", Done, RESEALED),
    to("item.trash", "item", Done, REVISION),
    to("item.untrash", "item", Done, REVISION),
    to("item.purge", "item", Done, REVISION),
    to("item.view", "item", Done, REVISION),
    to("item.reveal", "item", Done, &[("lease", Id), ("revision", Number)]),
    to("item.reveal_failed", "item", Failed, &[("revision", Number), ("code", Text)]),
    to("item.export", "item", Done, &[("export", Id), ("lease", Id), ("revision", Number)]),
    to("item.list", "workspace", Done, COUNT),
    to("item.search", "workspace", Done, COUNT),
    to("item.grant", "item", Done, &[("member", Id), ("role", Text)]),
    to("item.ungrant", "item", Done, MEMBER),
    to("item.take_over", "item", Done, MEMBER),
    to("job.start", "vault", Done, JOB_START),
    to("job.pause", "vault", Done, JOB),
    to("job.resume", "vault", Done, JOB),
    to("job.cancel", "vault", Done, JOB),
    to("job.finish", "vault", Done, &[("job", Id), ("kind", Text), ("done", Number), ("failed", Number)]),
    to("webhook.create", "workspace", Done, WEBHOOK),
    to("webhook.delete", "workspace", Done, WEBHOOK),
    to("webhook.test", "workspace", Done, WEBHOOK),
    to("backup.create", "none", Done, &[("backup", Id), ("expires_at", Number), ("rows", Number)]),
    to("backup.retire", "none", Done, BACKUP),
    to(
        "backup.restore",
        "none",
        Done,
        &[
            ("backup", Id),
            ("made_at", Number),
            ("sessions", Number),
            ("tokens", Number),
            ("links", Number),
            ("codes", Number),
            ("jobs", Number),
        ],
    ),
    to("export.start", "vault", Done, &[("export", Id), ("format", Text), ("encrypted", Number), ("count", Number)]),
    to("export.finish", "workspace", Done, &[("export", Id), ("count", Number), ("damaged", Number), ("gone", Number)]),
    to("export.stop", "workspace", Failed, &[("export", Id), ("count", Number), ("code", Text)]),
    to("import.finish", "workspace vault", Done, &[("imported", Number), ("skipped", Number), ("failed", Number)]),
];
