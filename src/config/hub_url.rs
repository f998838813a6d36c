//! The URL of a hub, taken apart once: what is checked here is what is dialled and sent.
//!
//! It is not read by a general parser of URLs. Those take what cannot be dialled, such as an unknown
//! variable as a host, or drop it silently: port 65536 would be port 80. Nor may a host be what a
//! resolver reads as something else: it takes `127.1` and `0x7f000001` for 127.0.0.1.
//!
//! Messages do not quote the text: it may contain a password.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};

/// Limits of DNS.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

const WANTED: &str = "write http(s)://HOST:PORT/PATH, such as http://127.0.0.1:9090/api/v1/write";

const BAD_CHARACTER: &str =
    "has a host with a character that no name has; allowed: letters, digits, - _ and .";

/// A URL whose host can be dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubUrl {
    scheme: Scheme,
    host: Host,
    port: u16,
    authority: String,
    host_header: HeaderValue,
    target: Uri,
}

/// How a URL begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http://`: HTTP without TLS.
    Http,
    /// `https://`: HTTP over TLS.
    Https,
}

impl Scheme {
    const ALL: [Self; 2] = [Self::Http, Self::Https];

    /// The beginning of a URL, up to its host.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Http => "http://",
            Self::Https => "https://",
        }
    }

    /// The port of a URL that has none.
    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What a connection is made to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name to be resolved, which no resolver takes for an address.
    Name(String),
}

impl HubUrl {
    /// Parses a value of the configuration.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        parse(text).map_err(|fault| format!("{fault}; {WANTED}"))
    }

    /// How it begins.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host to connect to.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host and the port as the URL has them.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The value of the header `Host`.
    pub fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    /// The path and the query, as a request line has them.
    pub fn target(&self) -> &Uri {
        &self.target
    }

    /// The path.
    pub fn path(&self) -> &str {
        self.target.path()
    }
}

pub(super) fn parse(text: &str) -> Result<HubUrl, &'static str> {
    let mut schemes = Scheme::ALL.into_iter();
    let (scheme, rest) = schemes
        .find_map(|scheme| Some((scheme, strip_prefix(text, scheme.prefix())?)))
        .ok_or("is not an absolute http:// or https:// URL")?;
    if text.chars().any(|it| it.is_whitespace() || it.is_control()) {
        return Err("must not contain a space or control character");
    }
    if text.contains("$(") || text.contains("${") {
        return Err("contains a variable, and variables are not replaced in a url");
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if authority.contains('@') {
        return Err("must not contain a user name or password");
    }
    if target.contains('#') {
        return Err("must not contain a fragment (#...)");
    }
    let (host, port) = host_and_port(authority)?;
    Ok(HubUrl {
        scheme,
        host,
        port: port.unwrap_or(scheme.default_port()),
        host_header: HeaderValue::from_str(authority).map_err(|_| BAD_CHARACTER)?,
        authority: authority.to_owned(),
        target: parse_target(target)?,
    })
}

/// Removes a prefix that may be written in any case.
fn strip_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn host_and_port(authority: &str) -> Result<(Host, Option<u16>), &'static str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (inside, port) = rest.split_once(']').ok_or("has a [ without a ]")?;
            (Host::Address(ipv6(inside)?.into()), port)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(end);
            if port.len() > 1 && port[1..].contains(':') {
                return Err(
                    "has more than one colon in its host and port; an IPv6 address is written in \
                     brackets, as [2001:db8::1]:9090",
                );
            }
            (host_without_brackets(host)?, port)
        }
    };
    if let Host::Address(address) = host
        && (address.is_multicast() || address == Ipv4Addr::BROADCAST)
    {
        return Err("has a multicast or broadcast address, which takes no connection");
    }
    Ok((host, parse_port(port)?))
}

/// Parses what stands between the brackets.
fn ipv6(text: &str) -> Result<Ipv6Addr, &'static str> {
    if text.contains('%') {
        return Err("has an IPv6 zone (%...), which is not supported; use a global address");
    }
    let address: Ipv6Addr = text
        .parse()
        .map_err(|_| "has something other than an IPv6 address in brackets")?;
    if address.is_unicast_link_local() {
        return Err(
            "has a link-local IPv6 address, which needs a zone, and zones are not supported; use a \
             global address",
        );
    }
    Ok(address)
}

fn host_without_brackets(text: &str) -> Result<Host, &'static str> {
    if text.is_empty() {
        return Err("has no host");
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Address(address.into()));
    }
    if !text.is_ascii() {
        return Err("has a host with other letters than a to z; write its ASCII form (xn--...)");
    }
    // The dot at the end says that the name is complete.
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > NAME_BYTES_MAX {
        return Err("has a host of more than 253 characters");
    }
    name.split('.').try_for_each(check_label)?;
    if name.rsplit('.').next().is_some_and(is_number) {
        return Err(
            "has a host that ends in a number and is not an IPv4 address; write four numbers from \
             0 to 255 without leading zeros, or a name",
        );
    }
    Ok(Host::Name(text.to_owned()))
}

/// Checks a part of a name. Underscores are not allowed in host names, but container networks use
/// them and resolvers take them.
fn check_label(label: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !label.bytes().all(allowed) {
        return Err(BAD_CHARACTER);
    }
    if label.is_empty() || label.len() > LABEL_BYTES_MAX {
        return Err("has a host with a part (between dots) that is empty or longer than 63");
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err("has a host with a part (between dots) that starts or ends with -");
    }
    Ok(())
}

/// True for what resolvers read as a number: a host that ends in one is an address to them.
fn is_number(label: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits(label) || strip_prefix(label, "0x").is_some_and(hex)
}

/// Parses the rest of an authority: empty, or a colon and a port.
fn parse_port(text: &str) -> Result<Option<u16>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    let port = text
        .strip_prefix(':')
        .ok_or("has something other than a port after the ]")?;
    if port.is_empty() {
        return Err("has a colon without a port");
    }
    let digits = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    let number = port.parse().ok().filter(|_| digits);
    let number = number.ok_or("has a port that is not a number from 1 to 65535")?;
    Ok(Some(number))
}

/// Parses what follows the authority.
fn parse_target(text: &str) -> Result<Uri, &'static str> {
    let target = if text.starts_with('/') {
        text.to_owned()
    } else {
        format!("/{text}")
    };
    let target = PathAndQuery::try_from(target).ok();
    let target = target.filter(|target| target.as_str().is_ascii());
    let target = target.ok_or("has a character in its path that must be percent-encoded")?;
    Ok(target.into())
}

#[cfg(test)]
mod tests {
    use std::net::ToSocketAddrs;

    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let name = |name: &str| Host::Name(name.to_owned());
        let address = |address: &str| Host::Address(address.parse().unwrap());
        let rows = [
            ("http://hub", name("hub"), 80, "hub", "/"),
            (
                "HTTP://Hub.Example./w",
                name("Hub.Example."),
                80,
                "Hub.Example.",
                "/w",
            ),
            (
                "http://hub:9090/api/v1/write",
                name("hub"),
                9090,
                "hub:9090",
                "/api/v1/write",
            ),
            ("http://hub?a=b@c:d", name("hub"), 80, "hub", "/?a=b@c:d"),
            (
                "http://my_hub-1:65535/a?b",
                name("my_hub-1"),
                65535,
                "my_hub-1:65535",
                "/a?b",
            ),
            (
                "http://xn--hb-xka/",
                name("xn--hb-xka"),
                80,
                "xn--hb-xka",
                "/",
            ),
            ("http://0hub.4a/", name("0hub.4a"), 80, "0hub.4a", "/"),
            (
                "http://127.0.0.1:1/",
                address("127.0.0.1"),
                1,
                "127.0.0.1:1",
                "/",
            ),
            ("http://0.0.0.0/", address("0.0.0.0"), 80, "0.0.0.0", "/"),
            ("http://[::1]/w", address("::1"), 80, "[::1]", "/w"),
            ("https://hub/w", name("hub"), 443, "hub", "/w"),
            ("HTTPS://hub:80", name("hub"), 80, "hub:80", "/"),
            (
                "http://[2001:DB8::1]:9/",
                address("2001:db8::1"),
                9,
                "[2001:DB8::1]:9",
                "/",
            ),
            (
                "http://[::ffff:10.0.0.1]/",
                address("::ffff:10.0.0.1"),
                80,
                "[::ffff:10.0.0.1]",
                "/",
            ),
        ];
        for (text, host, port, authority, target) in rows {
            let url = HubUrl::parse(text).expect(text);
            assert_eq!((url.host(), url.port()), (&host, port), "{text}");
            let begins = text.to_ascii_lowercase().starts_with(url.scheme().prefix());
            assert!(begins, "{text}");
            assert_eq!(
                (url.authority(), url.host_header().to_str().unwrap()),
                (authority, authority),
                "{text}"
            );
            assert_eq!(url.target().to_string(), target, "{text}");
        }
    }

    /// What the functions of the C library that read addresses take beside four numbers.
    #[test]
    fn a_host_that_a_resolver_takes_for_an_address_is_no_name() {
        let hosts = [
            "1",
            "127.1",
            "127.0.1",
            "127.0.0.01",
            "0177.0.0.1",
            "0x7f.1",
            "0x7f000001",
            "a.1",
            "1.2.3.4.5",
            "256.0.0.1",
            "127.0.0.1.",
            "a.0x",
            "a.0X1F",
        ];
        for host in hosts {
            let fault = HubUrl::parse(&format!("http://{host}/")).unwrap_err();
            assert!(fault.contains("is not an IPv4 address"), "{host}: {fault}");
        }
    }

    proptest! {
        /// What is taken means the same to the parser of the HTTP library, and an address is the one
        /// that the system connects to.
        #[test]
        fn what_is_taken_is_what_is_dialled(
            text in "https?://(\\[[0-9a-f:.%]{1,9}\\]|[a-z0-9.x_$%()@-]{0,12}|[0-9]{1,3}(\\.[0-9]{1,3}){3})(:[0-9+]{0,6})?([/?#].{0,5})?",
        ) {
            let Ok(url) = HubUrl::parse(&text) else {
                return Ok(());
            };
            let uri: Uri = text.parse().unwrap();
            let authority = uri.authority().unwrap();
            prop_assert_eq!(authority.as_str(), url.authority());
            let default = if uri.scheme_str() == Some("http") { 80 } else { 443 };
            prop_assert_eq!(authority.port_u16().unwrap_or(default), url.port());
            prop_assert_eq!(authority.port().is_some(), authority.as_str().rfind(':') > authority.as_str().rfind(']'));
            prop_assert_eq!(uri.path(), url.path());
            prop_assert_eq!(uri.query(), url.target().query());
            let text = authority.host().trim_matches(['[', ']']);
            match url.host() {
                Host::Address(address) => {
                    let mut dialled = (text, url.port()).to_socket_addrs().unwrap();
                    prop_assert_eq!(dialled.next().unwrap().ip(), *address);
                }
                Host::Name(name) => {
                    prop_assert_eq!(text, name);
                    // inet_aton reads each part as a number.
                    let last = name.trim_end_matches('.').rsplit('.').next().unwrap();
                    let hex = last.to_lowercase();
                    let hex = hex.strip_prefix("0x").map(|it| u64::from_str_radix(it, 16).is_ok());
                    prop_assert!(last.parse::<u64>().is_err() && hex != Some(true), "{}", name);
                }
            }
        }

        #[test]
        fn no_text_is_a_panic(text in ".{0,40}", part in ".{0,20}") {
            let _ = HubUrl::parse(&text);
            let _ = HubUrl::parse(&format!("http://{text}:{part}"));
            let _ = HubUrl::parse(&format!("http://[{text}]{part}"));
        }
    }
}
