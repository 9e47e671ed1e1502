//! Style sheet, script and pictures, built into the binary and served under a URL that changes with their
//! content, so that a browser may keep them for good.

use axum::{
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Embedded;

/// The URL of the embedded file `name`, `/assets/{hash}/{name}`.
///
/// # Panics
/// If there is no such file: a typing error in a template, which every test that renders it finds.
pub fn url(name: &str) -> String {
    let file = Embedded::get(name).unwrap_or_else(|| panic!("no embedded asset is called {name}"));
    format!("/assets/{}/{name}", short_hash(&file))
}

/// Answers `GET /assets/{hash}/{name}`.
///
/// With the hash of today the answer may be kept for a year; with an old one (a page loaded before an upgrade)
/// the file of today is served, and not kept.
pub async fn serve(Path((hash, name)): Path<(String, String)>) -> Response {
    let Some(file) = Embedded::get(&name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let keep = if hash == short_hash(&file) {
        HeaderValue::from_static("public, max-age=31536000, immutable")
    } else {
        HeaderValue::from_static("no-cache")
    };
    let headers = [
        (header::CACHE_CONTROL, keep),
        (header::CONTENT_TYPE, content_type(&name)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, file.data).into_response()
}

fn short_hash(file: &rust_embed::EmbeddedFile) -> String {
    hex::encode(&file.metadata.sha256_hash()[..8])
}

fn content_type(name: &str) -> HeaderValue {
    HeaderValue::from_static(match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_hash_of_today_may_be_kept() {
        let url = url("app.css");
        let hash = url.split('/').nth(2).expect("the URL has three parts").to_owned();
        for (hash, keep) in [(hash, "public, max-age=31536000, immutable"), ("0".repeat(16), "no-cache")] {
            let answer = serve(Path((hash, "app.css".to_owned()))).await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers()[header::CACHE_CONTROL], keep);
            assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/css; charset=utf-8");
        }
    }

    #[tokio::test]
    async fn a_path_outside_the_assets_is_not_found() {
        let answer = serve(Path(("0".repeat(16), "../Cargo.toml".to_owned()))).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    }
}
