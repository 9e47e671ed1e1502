//! Filters for the templates.

use askama::{Result, Values, filters::Safe};

use super::icons;
use crate::http::web::assets;

/// `{{ "key-round"|icon }}`: an inline SVG, hidden from screen readers, since a word always stands beside it.
#[askama::filter_fn]
pub fn icon(name: &str, _: &dyn Values) -> Result<Safe<String>> {
    let Some(shapes) = icons::shapes(name) else {
        return Err(askama::Error::custom(format!("no icon is called {name}")));
    };
    Ok(Safe(format!(r#"<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">{shapes}</svg>"#)))
}

/// `{{ "app.css"|asset }}`: the URL of an embedded file.
#[askama::filter_fn]
pub fn asset(name: &str, _: &dyn Values) -> Result<String> {
    Ok(assets::url(name))
}

/// `{{ title|tint }}`: one of eight colour classes, always the same for the same text.
#[askama::filter_fn]
pub fn tint(text: &str, _: &dyn Values) -> Result<String> {
    let sum = text.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Ok(format!("tint-{}", sum % 8))
}

/// `{{ title|letter }}`: its first letter or digit, for the badge.
#[askama::filter_fn]
pub fn letter(text: &str, _: &dyn Values) -> Result<String> {
    let first = text.chars().find(|c| c.is_alphanumeric());
    Ok(first.map_or_else(|| "·".to_owned(), |c| c.to_uppercase().collect()))
}

/// `{{ 1|counted("item") }}`: "1 item", "12 items", "1,204 items".
#[askama::filter_fn]
pub fn counted(count: &u64, _: &dyn Values, noun: &str) -> Result<String> {
    Ok(crate::counted::counted(*count, noun))
}

/// `{{ name|initials }}`: up to two letters for the badge of a person.
#[askama::filter_fn]
pub fn initials(name: &str, _: &dyn Values) -> Result<String> {
    Ok(super::initials(name))
}
