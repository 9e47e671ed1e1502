//! `.env` files: `NAME=value` a line, `#` comments, `export` in front, single or double quotes. Nothing is expanded:
//! a `$` in a password is a `$`.

use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EnvFileError {
    #[error("line {0}: not NAME=value")]
    NoAssignment(usize),
    #[error("line {0}: the name may hold letters, digits and _ only, and begins with no digit")]
    Name(usize),
    #[error("line {0}: the quotation mark is not closed")]
    Quote(usize),
}

/// Names and values in the order of the file; empty values are kept. Errors name the line and never repeat it.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, EnvFileError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pairs = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(EnvFileError::NoAssignment(number))?;
        let name = name.trim();
        let well_formed = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        if name.is_empty() || name.starts_with(|letter: char| letter.is_ascii_digit()) || !name.chars().all(well_formed)
        {
            return Err(EnvFileError::Name(number));
        }
        pairs.push((name.to_owned(), unquoted(value.trim(), number)?));
    }
    Ok(pairs)
}

fn unquoted(value: &str, line: usize) -> Result<String, EnvFileError> {
    let Some(quote @ ('\'' | '"')) = value.chars().next() else {
        // Without quotes a comment may follow.
        return Ok(value.split(" #").next().unwrap_or_default().trim_end().to_owned());
    };
    let mut text = String::new();
    let mut letters = value[1..].chars();
    while let Some(letter) = letters.next() {
        match letter {
            letter if letter == quote => return Ok(text),
            '\\' if quote == '"' => match letters.next() {
                Some('n') => text.push('\n'),
                Some(escaped @ ('"' | '\\' | '$')) => text.push(escaped),
                Some(other) => text.extend(['\\', other]),
                None => return Err(EnvFileError::Quote(line)),
            },
            other => text.push(other),
        }
    }
    Err(EnvFileError::Quote(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn names_and_values_are_read_and_empty_ones_kept() {
        let text = "# comment\n\nA=1\r\nexport B = two # more\nC=\nD='x # $y'\nE=\"a\\n\\\"b\\\\\" # c\nF=p#q$r\n";
        assert_eq!(
            pairs(text),
            [
                pair("A", "1"),
                pair("B", "two"),
                pair("C", ""),
                pair("D", "x # $y"),
                pair("E", "a\n\"b\\"),
                pair("F", "p#q$r")
            ]
        );
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        assert_eq!(parse("A=1\nhunter2\n"), Err(EnvFileError::NoAssignment(2)));
        assert_eq!(parse("1A=x"), Err(EnvFileError::Name(1)));
        assert_eq!(parse("A='x"), Err(EnvFileError::Quote(1)));
        assert_eq!(parse("A=\"x\\"), Err(EnvFileError::Quote(1)));
    }
}
