//! The two CSV formats. They differ in their column names only.
//!
//! Columns are found by name, whatever their order and case. A column that neither format has (a group, a tag) is kept
//! as a hidden field under its own name, because what it holds is not known.

use std::collections::HashSet;

use url::Url;

use super::rows::Rows;
use super::{Format, ImportDraft, ImportError, Parsed, Place, Reason, Refused};
use crate::http::api::types::{CreateItem, Field, FieldKind, ItemType};
use crate::secret_text::SecretText;

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Column {
    Title,
    Url,
    Username,
    Password,
    Notes,
    Totp,
    Other,
}

/// The columns that must be there, as the format writes them.
fn required(format: Format) -> [(Column, &'static str); 5] {
    let (title, url, username, password, notes) = match format {
        Format::Chrome => ("name", "url", "username", "password", "note"),
        _ => ("Title", "URL", "Username", "Password", "Notes"),
    };
    [
        (Column::Title, title),
        (Column::Url, url),
        (Column::Username, username),
        (Column::Password, password),
        (Column::Notes, notes),
    ]
}

struct Header {
    line: u64,
    delimiter: u8,
    names: Vec<String>,
}

pub fn detect(text: &str) -> Result<Format, ImportError> {
    let header = Header::read(text)?;
    let missing = |format| header.missing(format).len();
    Ok(if missing(Format::Columns) < missing(Format::Chrome) { Format::Columns } else { Format::Chrome })
}

pub fn parse(text: &str, format: Format) -> Result<Parsed, ImportError> {
    let header = Header::read(text)?;
    let columns = header.columns(format)?;
    let mut parsed = Parsed::default();
    for (line, row) in Rows::new(text, header.delimiter).skip(1) {
        let place = Place::Line(line);
        match row.and_then(|cells| draft(cells, &columns, &header.names)) {
            Ok(item) => parsed.drafts.push(ImportDraft { place, item }),
            Err(reason) => parsed.refused.push(Refused { place, reason }),
        }
    }
    Ok(parsed)
}

impl Header {
    fn read(text: &str) -> Result<Self, ImportError> {
        let first_line = text.trim_start().lines().next().unwrap_or_default();
        // Spreadsheets of many countries write semicolons.
        let delimiter = [b',', b';', b'\t']
            .into_iter()
            .max_by_key(|delimiter| (first_line.bytes().filter(|byte| byte == delimiter).count(), *delimiter == b','))
            .expect("there are three");
        let (line, cells) = Rows::new(text, delimiter).next().ok_or(ImportError::Empty)?;
        let cells = cells.map_err(|reason| ImportError::Header { line, reason })?;
        let names = cells.iter().map(|cell| cell.expose().trim().to_owned()).collect();
        Ok(Self { line, delimiter, names })
    }

    fn missing(&self, format: Format) -> Vec<String> {
        required(format)
            .into_iter()
            .filter(|(_, name)| !self.names.iter().any(|found| found.eq_ignore_ascii_case(name)))
            .map(|(_, name)| name.to_owned())
            .collect()
    }

    /// What each column holds, in the order of the file.
    fn columns(&self, format: Format) -> Result<Vec<Column>, ImportError> {
        let missing = self.missing(format);
        // A file without a header has somebody's password there, which must not be printed as a column's name.
        if missing.len() > 3 {
            return Err(ImportError::NoHeader {
                line: self.line,
                expected: required(format).map(|(_, name)| name.to_owned()).into(),
            });
        }
        if !missing.is_empty() {
            return Err(ImportError::MissingColumns { line: self.line, missing, found: self.names.clone() });
        }
        let mut seen = HashSet::new();
        let mut columns = Vec::new();
        for name in &self.names {
            let known = required(format).into_iter().find(|(_, known)| name.eq_ignore_ascii_case(known));
            let column = match known {
                Some((column, _)) => column,
                None if ["otpauth", "totp"].iter().any(|totp| name.eq_ignore_ascii_case(totp)) => Column::Totp,
                None => Column::Other,
            };
            if column != Column::Other && !seen.insert(column) {
                return Err(ImportError::ColumnTwice { line: self.line, name: name.clone() });
            }
            columns.push(column);
        }
        Ok(columns)
    }
}

fn draft(cells: Vec<SecretText>, columns: &[Column], names: &[String]) -> Result<CreateItem, Reason> {
    let (found, expected) = (cells.len(), columns.len());
    if found < expected {
        let first_missing = names[found].clone();
        return Err(Reason::TooFewColumns { found, expected, first_missing });
    }
    if found > expected {
        return Err(Reason::TooManyColumns { found, expected });
    }
    if cells.iter().all(|cell| cell.expose().trim().is_empty()) {
        return Err(Reason::Empty);
    }
    let mut item = CreateItem::new(ItemType::Account, SecretText::from(""));
    for ((cell, column), name) in cells.into_iter().zip(columns).zip(names) {
        match column {
            Column::Title => item.title = SecretText::from(cell.expose().trim()),
            // An account keeps its password even when it is empty: that is what the export says.
            Column::Password => item.fields.push(Field::new("Password", FieldKind::Password, cell)),
            _ if cell.is_empty() => {}
            Column::Url => item.urls.push(cell),
            Column::Username => item.usernames.push(cell),
            Column::Notes => item.fields.push(Field::new("Notes", FieldKind::Notes, cell)),
            Column::Totp => item.fields.push(Field::new("One-time password", FieldKind::Totp, cell)),
            Column::Other => item.fields.push(Field::new(name, FieldKind::Hidden, cell)),
        }
    }
    if item.title.is_empty() {
        item.title = stand_in_title(&item);
    }
    Ok(item)
}

/// For a row without a title: the host of its URL, else its username, else a plain word.
fn stand_in_title(item: &CreateItem) -> SecretText {
    let host = item.urls.first().and_then(|url| Url::parse(url.expose()).ok()?.host_str().map(SecretText::from));
    host.or_else(|| item.usernames.first().map(|name| SecretText::from(name.expose())))
        .unwrap_or_else(|| SecretText::from("Untitled"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROME: &str = "name,url,username,password,note\n";

    fn parsed(text: &str, format: Format) -> Parsed {
        parse(text, format).unwrap_or_else(|error| panic!("{error}"))
    }

    fn refusals(rows: &str) -> Vec<String> {
        let parsed = parsed(&format!("{CHROME}{rows}"), Format::Chrome);
        parsed.refused.iter().map(|refused| format!("{}: {}", refused.place, refused.reason)).collect()
    }

    fn value<'i>(item: &'i CreateItem, name: &str) -> Option<(&'i str, FieldKind)> {
        let field = item.fields.iter().find(|field| field.name.expose() == name)?;
        Some((field.value.expose(), field.kind))
    }

    #[test]
    fn a_row_of_chrome_becomes_an_account() {
        let rows = "Mail,https://mail.example.com/,ada,\" p,\"\"w\n\",two\r\nlines\n";
        // CR LF inside an unquoted cell ends the row, so the note here is quoted.
        let rows = rows.replace("two\r\nlines", "\"two\r\nlines\"");
        let parsed = parsed(&format!("{CHROME}{rows}"), Format::Chrome);
        let item = &parsed.drafts[0].item;
        assert_eq!(item.item_type, ItemType::Account);
        assert_eq!(item.title.expose(), "Mail");
        assert_eq!(item.urls[0].expose(), "https://mail.example.com/");
        assert_eq!(item.usernames[0].expose(), "ada");
        assert_eq!(value(item, "Password"), Some((" p,\"w\n", FieldKind::Password)));
        assert_eq!(value(item, "Notes"), Some(("two\r\nlines", FieldKind::Notes)));
    }

    #[test]
    fn columns_are_found_in_any_order_and_case_and_with_semicolons() {
        let text = "PASSWORD;notes;\"Title\";otpauth;username;Group; Url \np;;T;otpauth://totp/x;u;g;u.example\n";
        let parsed = parsed(text, Format::Columns);
        let item = &parsed.drafts[0].item;
        assert_eq!((item.title.expose(), item.urls[0].expose()), ("T", "u.example"));
        assert_eq!(value(item, "One-time password"), Some(("otpauth://totp/x", FieldKind::Totp)));
        assert_eq!(value(item, "Group"), Some(("g", FieldKind::Hidden)));
        assert_eq!(value(item, "Notes"), None);
    }

    #[test]
    fn an_empty_password_is_kept_and_a_missing_title_is_made_up() {
        let parsed = parsed(&format!("{CHROME},https://a.example/x,u,,\n,,u,,\n,,,p,\n"), Format::Chrome);
        let titles: Vec<&str> = parsed.drafts.iter().map(|draft| draft.item.title.expose()).collect();
        assert_eq!(titles, ["a.example", "u", "Untitled"]);
        assert_eq!(value(&parsed.drafts[0].item, "Password"), Some(("", FieldKind::Password)));
    }

    #[test]
    fn the_format_is_told_by_the_header() {
        assert_eq!(detect(CHROME), Ok(Format::Chrome));
        assert_eq!(detect("title,url,username,password,notes\n"), Ok(Format::Columns));
        assert_eq!(detect("Title,Username,Password\n"), Ok(Format::Columns));
    }

    #[test]
    fn a_missing_column_is_named_with_its_line() {
        let refusal = parse("\nTitle,URL,Username,Notes\na,b,c,d\n", Format::Columns).err().expect("refused");
        assert_eq!(
            refusal.to_string(),
            "line 2: column `Password` is missing; the header has `Title`, `URL`, `Username`, `Notes`"
        );
        let twice = parse("Title,URL,url,Username,Password,Notes\n", Format::Columns).err().expect("refused");
        assert_eq!(twice.to_string(), "line 1: column `url` stands twice in the header");
    }

    #[test]
    fn bad_rows_are_refused_one_by_one() {
        let long = "x".repeat(super::super::ENTRY_LIMIT);
        assert_eq!(
            refusals(&format!("a,b,c\nd,e,f,g,h\ni,j,k,l,m,n\n{long},,,,\n,,,,\no,p,q,r,s\n")),
            [
                "line 2: 3 columns where the header has 5; from `password` on they are missing",
                "line 4: 6 columns where the header has 5; a comma may stand outside quotation marks",
                "line 5: larger than 256 kB; a quotation mark may not be closed",
                "line 6: empty",
            ]
        );
    }

    #[test]
    fn a_file_without_a_header_does_not_print_its_first_row() {
        let refusal = parse("Mail,https://a.example,ada,hunter2,\n", Format::Chrome).err().expect("refused");
        assert_eq!(
            refusal.to_string(),
            "line 1: this is not a header; the first line must name the columns `name`, `url`, `username`, \
             `password`, `note`"
        );
    }
}
