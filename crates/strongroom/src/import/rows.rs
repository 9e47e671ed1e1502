//! The rows of a CSV file (RFC 4180), each with its line, into wiped memory.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use zeroize::Zeroizing;

use super::{ENTRY_LIMIT, Reason};
use crate::secret_text::SecretText;

/// More columns than any export has.
const COLUMN_LIMIT: usize = 256;

/// Yields (line on which the row begins, its cells or why it cannot be read). Blank lines are passed over.
pub struct Rows<'t> {
    text: &'t [u8],
    reader: Reader,
    position: usize,
    line: u64,
    /// The cells of one row, one after the other.
    cells: Zeroizing<Vec<u8>>,
    /// Where in `cells` each ends.
    ends: Vec<usize>,
}

impl<'t> Rows<'t> {
    /// Rows of a text without byte order mark whose cells are parted by `delimiter`.
    pub fn new(text: &'t str, delimiter: u8) -> Self {
        Self {
            text: text.as_bytes(),
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            position: 0,
            line: 1,
            cells: Zeroizing::new(vec![0; ENTRY_LIMIT]),
            ends: vec![0; COLUMN_LIMIT],
        }
    }

    fn skip_blank_lines(&mut self) {
        while let Some(byte @ (b'\r' | b'\n')) = self.text.get(self.position) {
            self.line += u64::from(*byte == b'\n');
            self.position += 1;
        }
    }

    /// Reads to the end of the row; `None` if it does not fit, else how many cells there are.
    fn read(&mut self) -> Option<usize> {
        let (mut fits, mut written, mut count) = (true, 0, 0);
        loop {
            let (result, read, bytes, ends) = self.reader.read_record(
                &self.text[self.position..],
                &mut self.cells[written..],
                &mut self.ends[count..],
            );
            self.position += read;
            written += bytes;
            count += ends;
            match result {
                ReadRecordResult::InputEmpty => {}
                // The rest of a row that does not fit is read over the same memory and thrown away.
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    (fits, written, count) = (false, 0, 0);
                }
                ReadRecordResult::Record | ReadRecordResult::End => return fits.then_some(count),
            }
        }
    }

    fn cell(&self, index: usize) -> SecretText {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        let bytes = self.cells[start..self.ends[index]].to_vec();
        SecretText::from(String::from_utf8(bytes).expect("UTF-8 cut at quotes and delimiters, which are ASCII"))
    }
}

impl Iterator for Rows<'_> {
    type Item = (u64, Result<Vec<SecretText>, Reason>);

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_blank_lines();
        if self.position == self.text.len() {
            return None;
        }
        let (line, start) = (self.line, self.position);
        let count = self.read();
        let raw = &self.text[start..self.position];
        self.line += raw.iter().filter(|byte| **byte == b'\n').count() as u64;
        // Quotation marks come in pairs; only at the end of the file can one be left over unnoticed, and then the last
        // row has swallowed those after it.
        let unclosed = self.position == self.text.len() && raw.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
        let row = match count {
            _ if unclosed => Err(Reason::UnclosedQuote),
            None => Err(Reason::RowTooLong),
            Some(count) => Ok((0..count).map(|index| self.cell(index)).collect()),
        };
        Some((line, row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<(u64, Result<Vec<String>, Reason>)> {
        let plain = |cells: Vec<SecretText>| cells.iter().map(|cell| cell.expose().to_owned()).collect();
        Rows::new(text, b',').map(|(line, row)| (line, row.map(plain))).collect()
    }

    fn row(line: u64, cells: &[&str]) -> (u64, Result<Vec<String>, Reason>) {
        (line, Ok(cells.iter().map(|cell| cell.to_string()).collect()))
    }

    #[test]
    fn quotes_commas_and_newlines_stay_in_their_cell() {
        assert_eq!(
            rows("a,\"b, \"\"c\"\"\"\n\"d\ne\",\u{1F511}\n,\n"),
            [row(1, &["a", "b, \"c\""]), row(2, &["d\ne", "\u{1F511}"]), row(4, &["", ""])]
        );
    }

    #[test]
    fn lines_are_counted_through_crlf_and_blank_lines() {
        assert_eq!(
            rows("a,b\r\n\r\n\"c\r\nd\",e\r\nf,g"),
            [row(1, &["a", "b"]), row(3, &["c\r\nd", "e"]), row(5, &["f", "g"])]
        );
    }

    #[test]
    fn a_row_that_is_too_long_does_not_harm_the_next() {
        let text = format!("a,{}\nb,c\n{}\nd,e", "x".repeat(ENTRY_LIMIT), ",".repeat(COLUMN_LIMIT));
        assert_eq!(
            rows(&text),
            [(1, Err(Reason::RowTooLong)), row(2, &["b", "c"]), (3, Err(Reason::RowTooLong)), row(4, &["d", "e"])]
        );
    }

    #[test]
    fn a_quote_left_open_is_noticed() {
        assert_eq!(rows("a,b\nc,\"d\ne,f\n"), [row(1, &["a", "b"]), (2, Err(Reason::UnclosedQuote))]);
    }
}
