//! `GET /`: the status page, and the files that it consists of.
//!
//! They are plain HTML, CSS and JavaScript, as they are in `ui/`: nothing builds them, and nothing comes
//! from elsewhere. All data comes from the [API](super::api). What a spoke could have written is only ever
//! made a text node or an attribute, and the policy below would run no script that got in otherwise.

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response};

use super::Sources;

/// The page loads its own files, asks its own API, and is shown in no frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
     trusted-types 'none'",
);

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

const CSS: &str = "text/css; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The files: path, media type and content.
const FILES: [(&str, &str, &str); 10] = [
    ("/", HTML, include_str!("ui/index.html")),
    ("/ui/app.js", JAVASCRIPT, include_str!("ui/app.js")),
    ("/ui/charts.js", JAVASCRIPT, include_str!("ui/charts.js")),
    ("/ui/door.js", JAVASCRIPT, include_str!("ui/door.js")),
    ("/ui/hubs.js", JAVASCRIPT, include_str!("ui/hubs.js")),
    ("/ui/icon.svg", SVG, include_str!("ui/icon.svg")),
    ("/ui/spoke.js", JAVASCRIPT, include_str!("ui/spoke.js")),
    ("/ui/spokes.js", JAVASCRIPT, include_str!("ui/spokes.js")),
    ("/ui/style.css", CSS, include_str!("ui/style.css")),
    ("/ui/text.js", JAVASCRIPT, include_str!("ui/text.js")),
];

/// The routes of the page.
pub(super) fn router() -> Router<Sources> {
    FILES
        .into_iter()
        .fold(Router::new(), |router, (path, media_type, content)| {
            router.route(path, get(move || async move { file(media_type, content) }))
        })
}

fn file(media_type: &'static str, content: &'static str) -> Response<Body> {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (OPENER_POLICY, HeaderValue::from_static("same-origin")),
        (RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
        // The files of two versions must not mix after an upgrade; they are small.
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, content).into_response()
}

#[cfg(test)]
mod tests {
    use super::FILES;

    /// A file that the page asks for and that nobody serves would be noticed late.
    #[test]
    fn each_file_that_the_page_names_is_served() {
        let served = |name: &str| FILES.iter().any(|(path, ..)| path.ends_with(name));
        for (path, _, content) in FILES {
            let quoted = content.split(['"', '\'']);
            let named = quoted.filter(|it| it.starts_with("ui/") || it.starts_with("./"));
            for name in named {
                let name = name.trim_start_matches('.');
                assert!(served(name), "{path}: {name}");
            }
        }
    }
}
