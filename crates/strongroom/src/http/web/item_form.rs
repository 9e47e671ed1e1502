//! The form of an item, new or there already. Opening it for an item reveals that item.

use axum::{http::StatusCode, response::Response};

use super::{
    form::Form,
    items::{dark_or, totp},
    views::{
        Choice, Field as Input, Notice, Section,
        items::{Editing, FieldInput, ItemForm, ItemKind},
    },
    visit::{Visit, to},
    words,
};
use crate::{
    error::{Error, FieldError, Result},
    http::{error::status, extract::PathId},
    id::ItemId,
    item::{Content, Field, FieldKind, ItemType, Patch},
    secret_text::SecretText,
    vault::VaultState,
};

const PASSWORD: &str = "Password";
const TOTP: &str = "One-time password";
const NOTES: &str = "Notes";

pub async fn blank(visit: Visit) -> Result<Response> {
    let kind = match (visit.asked("type"), visit.asked("kind")) {
        ("secret", kind) => ItemKind::parse(kind).filter(|kind| !kind.is_account()).unwrap_or(ItemKind::SECRETS[0]),
        _ => ItemKind::Account,
    };
    let typed = Typed { rows: kind.starting_fields(), ..Typed::blank(kind) };
    page(&visit, StatusCode::OK, typed, None, &[], None).await
}

/// Reveals an item into its form.
pub async fn open(visit: Visit, PathId(id): PathId<ItemId>) -> Result<Response> {
    let (revision, fields) = match visit.app.reveal_item(&visit.caller, id, None).await {
        Ok(revealed) => revealed,
        Err(error) => return dark_or(&visit, id, error).await,
    };
    let item = visit.app.item(&visit.caller, id).await?;
    let kind = ItemKind::of(&item.overview);
    let mut typed = Typed::blank(kind);
    typed.title = item.overview.title;
    typed.usernames = lines_of(&item.overview.usernames);
    typed.urls = lines_of(&item.overview.urls);
    typed.fill(fields);
    page(&visit, StatusCode::OK, typed, Some(Editing { id: id.to_string(), revision }), &[], None).await
}

pub async fn create(visit: Visit, form: Form) -> Result<Response> {
    let mut typed = Typed::of(&form);
    if form.get("action") == "add_field" {
        typed.rows.push(FieldInput::new("", FieldKind::Text, ""));
        return page(&visit, StatusCode::OK, typed, None, &[], None).await;
    }
    let (fields, slots) = typed.fields();
    let content = Content {
        item_type: if typed.kind.is_account() { ItemType::Account } else { ItemType::Secret },
        kind: match typed.kind {
            ItemKind::Account => None,
            ItemKind::Secret(kind) => Some(kind),
        },
        title: typed.title.expose().into(),
        urls: lines(typed.urls.expose()),
        usernames: lines(typed.usernames.expose()),
        labels: Vec::new(),
        fields,
    };
    let made = match typed.wrong(content.check()) {
        Some(errors) => Err(Error::Invalid(errors)),
        None => visit.app.create_item(&visit.caller, form.parsed("vault_id"), content).await,
    };
    match made {
        Ok(item) => Ok(to(format!("/items/{}?done=item-created", item.id))),
        Err(error) => again(&visit, typed, &slots, None, error).await,
    }
}

pub async fn save(visit: Visit, PathId(id): PathId<ItemId>, form: Form) -> Result<Response> {
    let revision = form.parsed("revision").ok_or(Error::RevisionRequired)?;
    let editing = Editing { id: id.to_string(), revision };
    let mut typed = Typed::of(&form);
    if form.get("action") == "add_field" {
        typed.rows.push(FieldInput::new("", FieldKind::Text, ""));
        return page(&visit, StatusCode::OK, typed, Some(editing), &[], None).await;
    }
    let (fields, slots) = typed.fields();
    let is_account = typed.kind.is_account();
    let patch = Patch {
        title: Some(typed.title.expose().into()),
        // A secret's form has no lines for these, so what an import brought stays.
        urls: is_account.then(|| lines(typed.urls.expose())),
        usernames: is_account.then(|| lines(typed.usernames.expose())),
        fields: Some(fields),
        ..Patch::default()
    };
    let saved = match typed.wrong(Ok(())) {
        Some(errors) => Err(Error::Invalid(errors)),
        None => visit.app.edit_item(&visit.caller, id, revision, patch).await,
    };
    match saved {
        Ok(_) => Ok(to(format!("/items/{id}?done=item-saved"))),
        Err(error) => again(&visit, typed, &slots, Some(editing), error).await,
    }
}

/// The form again with what is wrong. While the vault's key does not answer, what was typed stays in the form.
async fn again(
    visit: &Visit,
    mut typed: Typed,
    slots: &[Slot],
    editing: Option<Editing>,
    error: Error,
) -> Result<Response> {
    let status = status(&error);
    let (errors, problem) = match error {
        Error::Invalid(errors) => (errors, None),
        Error::RevisionStale { current } => {
            let text = "Somebody saved another revision after you opened this form.";
            let more = format!(
                "Revision {current} is current. Open the item in another tab, compare, and edit it there; nothing was overwritten."
            );
            (Vec::new(), Some(Notice::problem(text, more)))
        }
        Error::KeyUnavailable(why) => {
            let text = format!(
                "Nothing was saved: {} of {} does not answer ({}).",
                "the key",
                why.vault_name,
                why.title.to_lowercase()
            );
            (
                Vec::new(),
                Some(Notice::problem(text, "What you typed is still here. Send it again once the vault is open.")),
            )
        }
        error => return Err(error),
    };
    let mut of_form = Vec::new();
    for error in errors {
        match slot_of(&error, slots) {
            Some(Slot::Row(index)) => typed.rows[index].error = Some(error.message.into_owned()),
            Some(Slot::Input(name)) => of_form.push(FieldError { field: name.into(), message: error.message }),
            None => of_form.push(error),
        }
    }
    page(visit, status, typed, editing, &of_form, problem).await
}

/// Where in the form a field of the content stands.
#[derive(Clone, Copy)]
enum Slot {
    Input(&'static str),
    Row(usize),
}

/// `fields.2.value` is the slot of the third field.
fn slot_of(error: &FieldError, slots: &[Slot]) -> Option<Slot> {
    let index = error.field.strip_prefix("fields.")?.split('.').next()?;
    slots.get(index.parse::<usize>().ok()?).copied()
}

/// What was typed into the form.
struct Typed {
    kind: ItemKind,
    vault: String,
    title: SecretText,
    usernames: SecretText,
    urls: SecretText,
    password: SecretText,
    totp: SecretText,
    notes: SecretText,
    rows: Vec<FieldInput>,
}

impl Typed {
    fn blank(kind: ItemKind) -> Self {
        let none = || SecretText::from("");
        Self {
            kind,
            vault: String::new(),
            title: none(),
            usernames: none(),
            urls: none(),
            password: none(),
            totp: none(),
            notes: none(),
            rows: Vec::new(),
        }
    }

    fn of(form: &Form) -> Self {
        let rows = form.all("field_name").zip(form.all("field_kind")).zip(form.all("field_value"));
        let rows = rows.map(|((name, kind), value)| {
            FieldInput::new(name.trim(), FieldKind::parse(kind).unwrap_or(FieldKind::Text), unix_lines(value))
        });
        Self {
            kind: ItemKind::parse(form.get("kind")).unwrap_or(ItemKind::Account),
            vault: form.text("vault_id"),
            title: form.get("title").trim().into(),
            usernames: form.secret("usernames"),
            urls: form.secret("urls"),
            password: form.secret("password"),
            totp: form.get("totp").trim().into(),
            notes: unix_lines(form.get("notes")),
            rows: rows.collect(),
        }
    }

    /// Puts the fields of an item where the form has a place for them, the rest into rows.
    fn fill(&mut self, fields: Vec<Field>) {
        for field in fields {
            let place = match (field.kind, field.name.expose()) {
                (FieldKind::Password, PASSWORD) if self.kind.is_account() => Some(&mut self.password),
                (FieldKind::Totp, TOTP) if self.kind.is_account() => Some(&mut self.totp),
                (FieldKind::Notes, NOTES) => Some(&mut self.notes),
                _ => None,
            };
            match place {
                Some(place) if place.is_empty() => *place = field.value,
                _ => self.rows.push(FieldInput::new(field.name, field.kind, field.value)),
            }
        }
    }

    /// The content's fields, and where each came from.
    fn fields(&self) -> (Vec<Field>, Vec<Slot>) {
        let (mut fields, mut slots) = (Vec::new(), Vec::new());
        let mut put = |name: &str, kind, value: &str, slot| {
            fields.push(Field::new(name, kind, value.into()));
            slots.push(slot);
        };
        let inputs =
            [(PASSWORD, FieldKind::Password, &self.password, "password"), (TOTP, FieldKind::Totp, &self.totp, "totp")];
        for (name, kind, value, input) in inputs {
            if !value.is_empty() && self.kind.is_account() {
                put(name, kind, value.expose(), Slot::Input(input));
            }
        }
        for (index, row) in self.rows.iter().enumerate() {
            if !row.name.is_empty() || !row.value.is_empty() {
                let name = if row.name.is_empty() { row.kind.label() } else { row.name.expose() };
                put(name, row.kind, row.value.expose(), Slot::Row(index));
            }
        }
        if !self.notes.is_empty() {
            put(NOTES, FieldKind::Notes, self.notes.expose(), Slot::Input("notes"));
        }
        (fields, slots)
    }

    /// What only the form knows to be wrong, beside what the content's own check says.
    fn wrong(&self, checked: Result<()>) -> Option<Vec<FieldError>> {
        let bad = self.kind.is_account() && !self.totp.is_empty() && totp(self.totp.expose()).is_none();
        let message = "This is no setup key: letters A to Z and digits 2 to 7, or an otpauth:// address.";
        let own = FieldError { field: "totp".into(), message: message.into() };
        let others = match checked {
            Err(Error::Invalid(errors)) => errors,
            _ => Vec::new(),
        };
        bad.then(|| others.into_iter().chain([own]).collect())
    }
}

async fn page(
    visit: &Visit,
    status: StatusCode,
    typed: Typed,
    editing: Option<Editing>,
    errors: &[FieldError],
    problem: Option<Notice>,
) -> Result<Response> {
    let title = if editing.is_some() { "Edit" } else { "New item" };
    let mut shell = visit.shell(title, Section::Items).await?;
    if let Some(editing) = &editing {
        shell.path = format!("/items/{}", editing.id);
    } else if !visit.path.starts_with("/items/new") {
        shell.path = "/items/new".into();
    }
    let open = visit.app.vaults(&visit.caller).await?.into_iter().filter(|vault| vault.state == VaultState::Active);
    let vaults = open.map(|vault| {
        let id = vault.id.to_string();
        let chosen = if typed.vault.is_empty() { vault.is_default } else { id == typed.vault };
        Choice::new(id, format!("{} ({})", vault.name, vault.strategy.title()), chosen)
    });
    let vaults = vaults.collect();
    let of_all = super::views::said_of("fields", errors).map(|text| Notice::problem("This cannot be taken.", text));
    words::page(
        status,
        ItemForm {
            shell,
            editing,
            kind: typed.kind,
            title: Input::checked(typed.title, "title", errors),
            vaults,
            vault_error: super::views::said_of("vault_id", errors),
            usernames: Input::checked(typed.usernames, "usernames", errors),
            urls: Input::checked(typed.urls, "urls", errors),
            password: Input::checked(typed.password, "password", errors),
            totp: Input::checked(typed.totp, "totp", errors),
            notes: Input::checked(typed.notes, "notes", errors),
            fields: typed.rows,
            problem: problem.or(of_all),
        },
    )
}

/// One entry a line, without empty ones.
fn lines(text: &str) -> Vec<SecretText> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(SecretText::from).collect()
}

fn lines_of(entries: &[SecretText]) -> SecretText {
    let all: Vec<&str> = entries.iter().map(SecretText::expose).collect();
    all.join("\n").into()
}

/// Browsers send CR LF for every line break in a text box (HTML, "constructing the entry list").
fn unix_lines(text: &str) -> SecretText {
    text.replace("\r\n", "\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_revealed_into_the_form_is_saved_as_it_was() {
        let fields = || {
            vec![
                Field::new(PASSWORD, FieldKind::Password, "p".into()),
                Field::new(TOTP, FieldKind::Totp, "JBSWY3DPEHPK3PXP".into()),
                Field::new("PIN", FieldKind::Hidden, "1".into()),
                Field::new("Old password", FieldKind::Password, "o".into()),
                Field::new("Key", FieldKind::PrivateKey, "a\nb".into()),
                Field::new(NOTES, FieldKind::Notes, "n\nm".into()),
            ]
        };
        let mut typed = Typed::blank(ItemKind::Account);
        typed.fill(fields());
        assert!(typed.fields().0 == fields());
    }

    #[test]
    fn an_error_of_a_field_stands_beside_its_input() {
        let mut typed = Typed::blank(ItemKind::Account);
        typed.rows = vec![FieldInput::new("", FieldKind::Text, ""), FieldInput::new("a", FieldKind::Text, "b")];
        typed.password = "p".into();
        let (_, slots) = typed.fields();
        let error = FieldError { field: "fields.1.value".into(), message: "".into() };
        assert!(matches!(slot_of(&error, &slots), Some(Slot::Row(1))));
        let error = FieldError { field: "fields.0.value".into(), message: "".into() };
        assert!(matches!(slot_of(&error, &slots), Some(Slot::Input("password"))));
    }
}
