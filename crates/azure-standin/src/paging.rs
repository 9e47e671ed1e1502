//! Lists in pages, as Graph and Resource Manager give them. Their pages hold a hundred rows and more; these are small on
//! purpose, so that a client that does not follow the link is found out.

use serde_json::{Value, json};

use crate::http::Request;

const SIZE: usize = 10;
const LARGEST: usize = 999;

/// `{"value": […]}` with the page that the request asks for, and under `link` the address of the next, if there is one.
pub(crate) fn page(request: &Request, rows: Vec<Value>, link: &str) -> Value {
    let number = |name: &str| request.query(name).and_then(|text| text.parse::<usize>().ok());
    let size = number("$top").unwrap_or(SIZE).clamp(1, LARGEST);
    let start = number("$skiptoken").unwrap_or(0);
    let next = start.saturating_add(size);
    let more = next < rows.len();
    let rows: Vec<Value> = rows.into_iter().skip(start).take(size).collect();
    let mut page = json!({"value": rows});
    if more {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(request.query.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("$skiptoken")));
        query.append_pair("$skiptoken", &next.to_string());
        page[link] = format!("https://{}{}?{}", request.host, request.path, query.finish()).into();
    }
    page
}
