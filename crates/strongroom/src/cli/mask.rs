//! Takes secrets out of a stream of output, wherever the chunks are cut.

use zeroize::Zeroizing;

use crate::secret_text::SecretText;

const INSTEAD: &[u8] = b"<concealed by strongroom>";

pub struct Masker {
    /// Longest first, so that a secret that contains another goes as a whole.
    secrets: Vec<Zeroizing<Vec<u8>>>,
    /// The end of what came, if it may be the beginning of a secret.
    held: Zeroizing<Vec<u8>>,
}

impl Masker {
    /// Masks these values. Of a value of several lines also each longer line, because programs print line by line.
    pub fn new<'s>(values: impl IntoIterator<Item = &'s SecretText>) -> Self {
        let mut secrets: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        for value in values {
            let text = value.expose();
            let lines = text.lines().filter(|line| line.len() >= 8 && line.len() < text.len());
            let parts = std::iter::once(text).chain(lines).filter(|part| !part.is_empty());
            secrets.extend(parts.map(|part| Zeroizing::new(part.as_bytes().to_vec())));
        }
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets, held: Zeroizing::new(Vec::new()) }
    }

    /// Takes a chunk and gives what can be shown of all that came so far.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(chunk);
        self.drain(false)
    }

    /// The rest, when nothing more will come.
    pub fn finish(&mut self) -> Vec<u8> {
        self.drain(true)
    }

    fn drain(&mut self, at_end: bool) -> Vec<u8> {
        let mut shown = Vec::new();
        let mut position = 0;
        while position < self.held.len() {
            let rest = &self.held[position..];
            // A longer secret that may still complete itself goes before a shorter one that is complete.
            match self.secrets.iter().find(|secret| meets(rest, secret, at_end)) {
                Some(secret) if rest.len() < secret.len() => break,
                Some(secret) => {
                    shown.extend_from_slice(INSTEAD);
                    position += secret.len();
                }
                None => {
                    shown.push(rest[0]);
                    position += 1;
                }
            }
        }
        self.held.drain(..position);
        shown
    }
}

/// Whether `rest` begins with the secret or, unless nothing more will come, is a beginning of it.
fn meets(rest: &[u8], secret: &[u8], at_end: bool) -> bool {
    rest.starts_with(secret) || (!at_end && secret.starts_with(rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(secrets: &[&str], chunks: &[&str]) -> String {
        let secrets: Vec<SecretText> = secrets.iter().map(|secret| SecretText::from(*secret)).collect();
        let mut masker = Masker::new(&secrets);
        let mut shown: Vec<u8> = chunks.iter().flat_map(|chunk| masker.push(chunk.as_bytes())).collect();
        shown.extend(masker.finish());
        String::from_utf8(shown).expect("the test uses ASCII").replace("<concealed by strongroom>", "#")
    }

    #[test]
    fn a_secret_across_chunks_is_masked() {
        assert_eq!(masked(&["hunter2"], &["a hun", "te", "r2 b hunter", "3\n"]), "a # b hunter3\n");
    }

    #[test]
    fn the_longer_of_two_secrets_goes_first() {
        assert_eq!(masked(&["pass", "password"], &["pass", "word pass ", "passwor"]), "# # #wor");
    }

    #[test]
    fn what_only_begins_like_a_secret_is_shown_at_the_end() {
        assert_eq!(masked(&["secret"], &["secr"]), "secr");
        assert_eq!(masked(&[""], &["plain"]), "plain");
    }

    #[test]
    fn the_lines_of_a_private_key_are_masked_one_by_one() {
        let key = "-----BEGIN KEY-----\nAAAABBBBCCCC\n-----END KEY-----\n";
        assert_eq!(masked(&[key], &["AAAABBBBCCCC\r\n"]), "#\r\n");
        assert_eq!(masked(&[key], &[key]), "#");
    }

    proptest! {
        #[test]
        fn no_cut_lets_a_secret_through(text in "[ab]{0,40}", secret in "[ab]{1,5}", cut in 0usize..40) {
            let cut = cut.min(text.len());
            let whole = masked(&[&secret], &[&text]);
            prop_assert_eq!(&masked(&[&secret], &[&text[..cut], &text[cut..]]), &whole);
            prop_assert!(!whole.contains(&secret));
        }
    }
}
