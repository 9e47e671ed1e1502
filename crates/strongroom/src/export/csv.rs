//! Bitwarden's CSV export of a person: bitwarden.com/help/condition-bitwarden-import and bitwarden/sdk-internal,
//! `crates/bitwarden-exporters/src/csv.rs`. It knows logins and notes; what else there is becomes lines in `fields`.

use csv_core::WriteResult;
use zeroize::Zeroizing;

use super::{Exported, bitwarden, room};
use crate::item::ItemType;

const COLUMNS: [&str; 11] = [
    "folder",
    "favorite",
    "type",
    "name",
    "notes",
    "fields",
    "reprompt",
    "login_uri",
    "login_username",
    "login_password",
    "login_totp",
];

/// The table. A row needs nothing of those before it.
pub struct Table;

impl Table {
    pub fn begin() -> Vec<u8> {
        let mut out = Vec::new();
        row(COLUMNS, &mut out);
        out
    }

    pub fn item(item: &Exported<'_>) -> Zeroizing<Vec<u8>> {
        let mut out = room(item);
        let overview = item.overview;
        let is_login = overview.item_type == ItemType::Account;
        let flat = bitwarden::flat(item);
        let mut fields = Zeroizing::new(String::with_capacity(out.capacity()));
        for field in &flat.fields {
            if !fields.is_empty() {
                fields.push('\n');
            }
            for part in [field.name, ": ", field.value.expose()] {
                fields.push_str(part);
            }
        }
        let urls: Vec<&str> = overview.urls.iter().filter(|_| is_login).map(|url| url.expose()).collect();
        let urls = Zeroizing::new(urls.join(","));
        let text = |text: Option<&crate::secret_text::SecretText>| text.map_or("", |text| text.expose()).to_owned();
        let username = Zeroizing::new(text(overview.usernames.first().filter(|_| is_login)));
        let [notes, password, totp] = [flat.notes, flat.password, flat.totp].map(|value| Zeroizing::new(text(value)));
        let folder = Zeroizing::new(text(overview.labels.first()));
        let kind = if is_login { "login" } else { "note" };
        let title = overview.title.expose();
        row([&folder, "", kind, title, &notes, &fields, "0", &urls, &username, &password, &totp], &mut out);
        out
    }
}

/// Appends one row, RFC 4180 with line feeds, as Bitwarden writes it.
fn row(cells: [&str; COLUMNS.len()], out: &mut Vec<u8>) {
    let mut writer = csv_core::Writer::new();
    let bytes: usize = cells.iter().map(|cell| 2 * cell.len() + 4).sum();
    let start = out.len();
    out.resize(start + bytes + 8, 0);
    let mut at = start;
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            at += sure(writer.delimiter(&mut out[at..]));
        }
        let (result, _, written) = writer.field(cell.as_bytes(), &mut out[at..]);
        at += sure((result, written));
    }
    at += sure(writer.terminator(&mut out[at..]));
    out.truncate(at);
}

fn sure((result, written): (WriteResult, usize)) -> usize {
    assert!(matches!(result, WriteResult::InputEmpty), "the room is twice the text and four bytes a cell");
    written
}
