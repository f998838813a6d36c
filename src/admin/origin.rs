//! Refuses requests that a web page makes its visitor's browser send.
//!
//! Without `admin.credentials`, whoever reaches the admin port is trusted. The browser of an operator
//! reaches it, or adds the password that it was told once, and every page that is open there can send
//! requests: to reload in a loop, or to read metrics under a DNS name that first leads to the page and
//! then to the admin port (DNS rebinding). Browsers mark what pages send:
//!
//! - `Origin` (RFC 6454) is in every POST and in every request whose response the page wants to read.
//!   It is `null` for sandboxed pages. A page that was rebound sends its own name in both `Origin` and
//!   `Host`, so the host must also be one that nobody can rebind.
//! - `Sec-Fetch-Site` (W3C Fetch Metadata) is in every request to a loopback address, also in those of
//!   images and scripts.
//! - A GET of a page that was rebound has neither, and only `Host` tells it. A DNS name there may well
//!   be right, as in a scrape of a Kubernetes Service. On loopback it is not: Jupyter and webpack do
//!   the same.
//!
//! Prometheus, curl, kubelets and load balancers send neither `Origin` nor `Sec-Fetch-Site`.

use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Method};

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    /// The Host header is a name that anybody may have pointed at this address.
    #[error(
        "admin.address is on loopback, so Host must be localhost or an IP address; use one of \
         these, or bind another address"
    )]
    Host,
    /// Another site sends it, or one whose host anybody may have pointed at this address.
    #[error("the admin port takes no requests from web pages of another origin; use curl")]
    Origin,
}

/// Checks a request to the admin listener, which is bound to an address.
pub(super) fn check(head: &Parts, bound: SocketAddr) -> Result<(), Foreign> {
    let host = host(head);
    let fixed = host.as_ref().is_some_and(is_fixed);
    let named = head.uri.authority().is_some() || head.headers.contains_key(HOST);
    if bound.ip().is_loopback() && named && !fixed {
        return Err(Foreign::Host);
    }
    let mut origins = head.headers.get_all(ORIGIN).iter();
    if let Some(origin) = origins.next() {
        let same = host.is_some_and(|host| {
            let origin = origin.to_str().unwrap_or_default();
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str()))
        });
        if !(same && fixed && origins.next().is_none()) {
            return Err(Foreign::Origin);
        }
    }
    // A link of another site to a page may be followed, since that site sees nothing of it.
    let navigates = head.method == Method::GET && is(&head.headers, &SEC_FETCH_MODE, "navigate");
    let own = ["same-origin", "none"]
        .iter()
        .any(|site| is(&head.headers, &SEC_FETCH_SITE, site));
    if head.headers.contains_key(&SEC_FETCH_SITE) && !own && !navigates {
        return Err(Foreign::Origin);
    }
    Ok(())
}

/// The host and port that the sender asked for.
fn host(head: &Parts) -> Option<Authority> {
    let of_header = || head.headers.get(HOST)?.to_str().ok()?.parse().ok();
    head.uri.authority().cloned().or_else(of_header)
}

/// True for a host that no DNS server has a say in.
fn is_fixed(host: &Authority) -> bool {
    let name = host.host().to_ascii_lowercase();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

fn is(headers: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    headers.get(name).is_some_and(|it| it == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_with(
        bound: &str,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
    ) -> Result<(), Foreign> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        check(&head, bound.parse().unwrap())
    }

    const LOOPBACK: &str = "127.0.0.1:9481";
    const EVERYWHERE: &str = "0.0.0.0:9481";

    #[test]
    fn tells_web_pages_of_others_from_operators() {
        let host = ("host", "127.0.0.1:9481");
        let named = ("host", "hubgate.example.com:9481");
        let site = |site| ("sec-fetch-site", site);
        let mode = |mode| ("sec-fetch-mode", mode);
        let origin = |origin| ("origin", origin);
        for (case, headers, expected) in [
            ("curl", vec![host], Ok(())),
            ("no host", vec![], Ok(())),
            ("a scrape by name", vec![named], Ok(())),
            (
                "another site",
                vec![host, origin("http://example.com")],
                Err(Foreign::Origin),
            ),
            (
                "a sandboxed page",
                vec![host, origin("null")],
                Err(Foreign::Origin),
            ),
            (
                "an empty origin",
                vec![host, origin("")],
                Err(Foreign::Origin),
            ),
            (
                "another port",
                vec![host, origin("http://127.0.0.1:9090")],
                Err(Foreign::Origin),
            ),
            (
                "no port",
                vec![host, origin("http://127.0.0.1")],
                Err(Foreign::Origin),
            ),
            (
                "no scheme",
                vec![host, origin("127.0.0.1:9481")],
                Err(Foreign::Origin),
            ),
            (
                "its own page",
                vec![host, origin("http://127.0.0.1:9481")],
                Ok(()),
            ),
            (
                "two origins",
                vec![
                    host,
                    origin("http://127.0.0.1:9481"),
                    origin("http://example.com"),
                ],
                Err(Foreign::Origin),
            ),
            (
                "a rebound page",
                vec![named, origin("http://hubgate.example.com:9481")],
                Err(Foreign::Origin),
            ),
            (
                "an origin alone",
                vec![origin("http://127.0.0.1:9481")],
                Err(Foreign::Origin),
            ),
            (
                "an image",
                vec![host, site("cross-site"), mode("no-cors")],
                Err(Foreign::Origin),
            ),
            (
                "a subdomain",
                vec![host, site("same-site"), mode("no-cors")],
                Err(Foreign::Origin),
            ),
            (
                "a site to come",
                vec![host, site("new"), mode("no-cors")],
                Err(Foreign::Origin),
            ),
            (
                "a link",
                vec![host, site("cross-site"), mode("navigate")],
                Ok(()),
            ),
            (
                "the address bar",
                vec![host, site("none"), mode("navigate")],
                Ok(()),
            ),
            (
                "a script of its own",
                vec![host, site("same-origin"), mode("cors")],
                Ok(()),
            ),
        ] {
            let checked = check_with(EVERYWHERE, "GET", "/metrics", &headers);
            assert_eq!(checked, expected, "{case}");
        }
        // A form of another page navigates, too.
        let form = [host, site("cross-site"), mode("navigate")];
        let checked = check_with(EVERYWHERE, "POST", "/-/reload", &form);
        assert_eq!(checked, Err(Foreign::Origin));
    }

    #[test]
    fn on_loopback_the_host_is_an_address_or_localhost() {
        for (host, expected) in [
            ("127.0.0.1:9481", Ok(())),
            ("127.0.0.1", Ok(())),
            ("10.0.0.7:9481", Ok(())),
            ("[::1]:9481", Ok(())),
            ("localhost:9481", Ok(())),
            ("LOCALHOST", Ok(())),
            ("hubgate.localhost:9481", Ok(())),
            ("example.com:9481", Err(Foreign::Host)),
            ("localhost.example.com", Err(Foreign::Host)),
            ("127.0.0.1.example.com", Err(Foreign::Host)),
            ("notlocalhost", Err(Foreign::Host)),
        ] {
            let checked = check_with(LOOPBACK, "GET", "/metrics", &[("host", host)]);
            assert_eq!(checked, expected, "{host}");
            let absolute = format!("http://{host}/metrics");
            let checked = check_with(LOOPBACK, "GET", &absolute, &[("host", "127.0.0.1")]);
            assert_eq!(checked, expected, "{absolute}");
            let elsewhere = check_with(EVERYWHERE, "GET", "/metrics", &[("host", host)]);
            assert_eq!(elsewhere, Ok(()), "{host}");
        }
        for host in ["", "a b"] {
            let checked = check_with(LOOPBACK, "GET", "/metrics", &[("host", host)]);
            assert_eq!(checked, Err(Foreign::Host), "{host:?}");
        }
    }
}
