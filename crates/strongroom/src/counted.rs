//! Numbers with what they count, as people read them.

/// "1 item", "12 items", "1,204 items".
pub fn counted(count: u64, noun: &str) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let plural = if count == 1 { "" } else { "s" };
    format!("{grouped} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_thousands_are_parted() {
        assert_eq!(counted(1, "vault key"), "1 vault key");
        assert_eq!(counted(0, "item"), "0 items");
        assert_eq!(counted(1_204_000, "item"), "1,204,000 items");
    }
}
