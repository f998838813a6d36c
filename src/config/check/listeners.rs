//! Checks `listen` and `admin`, and that both can be bound.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::entry::Fields;
use super::{Check, credential, spoke, tls, value};
use crate::config::errors::{Report, Reported};
use crate::config::{
    Admin, ConnectionRules, Credential, ForwardedFor, Listen, ProxyProtocol, SourceRanges, defaults,
};
use crate::tls::ServerTls;

const LISTEN_KEYS: &[&str] = &[
    "address",
    "source_ranges",
    "proxy_protocol",
    "forwarded_for",
    "trusted_proxies",
    "connections_max",
    "connections_per_address_max",
    "connection_age_max",
    "tls",
];
const ADMIN_KEYS: &[&str] = &["address", "credentials", "tls"];

/// Checks both listeners.
pub(super) fn listeners(
    check: &mut Check<'_>,
    root: &Fields<'_>,
) -> Result<(Listen, Admin), Reported> {
    let listen = root.section(&mut check.report, "listen", LISTEN_KEYS);
    let admin = root.section(&mut check.report, "admin", ADMIN_KEYS);
    let tls = tls::server(check, &listen);
    let admin_tls = tls::server(check, &admin);
    check.asks_for_certificates = tls::asks_for_certificates(&tls);
    let credentials = admin_credentials(check, &admin);
    let report = &mut check.report;
    let default = defaults::LISTEN_ADDRESS;
    let listen_address = listen.parse_or(report, "address", value::address, default);
    let rules = rules(report, &listen, tls);
    let default = defaults::CONNECTIONS_MAX;
    let connections_max = listen.parse_or(report, "connections_max", value::count, default);
    let default = defaults::ADMIN_ADDRESS;
    let admin_address = admin.parse_or(report, "address", value::address, default);
    let (listen_address, admin_address) = (listen_address?, admin_address?);
    if overlap(listen_address, admin_address) {
        let entry = admin.get("address").or(listen.get("address"));
        let message = "listen.address and admin.address overlap; they need two ports";
        return Err(entry.unwrap_or(root.entry()).fail(report, message));
    }
    let listen = Listen {
        address: listen_address,
        connections_max: connections_max?,
        rules: Arc::new(rules?),
    };
    let admin = Admin {
        address: admin_address,
        rules: Arc::new(ConnectionRules {
            tls: admin_tls?,
            ..ConnectionRules::open()
        }),
        credentials: credentials?,
    };
    Ok((listen, admin))
}

fn admin_credentials(
    check: &mut Check<'_>,
    admin: &Fields<'_>,
) -> Result<Vec<Credential>, Reported> {
    let Some(list) = admin.get("credentials") else {
        return Ok(Vec::new());
    };
    let nobody = "is empty; leave the key out to let everybody use the admin port who reaches it";
    credential::credentials(check, list, &credential::OF_OPERATOR, nobody)
}

/// Checks who may connect to the write listener.
fn rules(
    report: &mut Report,
    listen: &Fields<'_>,
    tls: Result<Option<ServerTls>, Reported>,
) -> Result<ConnectionRules, Reported> {
    let source_ranges = spoke::source_ranges(report, listen);
    let default = defaults::PROXY_PROTOCOL;
    let proxy_protocol = listen.parse_or(report, "proxy_protocol", value::proxy_protocol, default);
    let default = defaults::FORWARDED_FOR;
    let forwarded_for = listen.parse_or(report, "forwarded_for", value::forwarded_for, default);
    let trusted_proxies = trusted_proxies(report, listen);
    let default = Some(defaults::CONNECTIONS_PER_ADDRESS_MAX);
    let key = "connections_per_address_max";
    let connections_per_address_max = listen.parse_or(report, key, value::count_or_none, default);
    let default = Some(defaults::LISTEN_CONNECTION_AGE_MAX);
    let key = "connection_age_max";
    let connection_age_max = listen.parse_or(report, key, value::connection_age, default);
    let rules = ConnectionRules {
        source_ranges: source_ranges.unwrap_or_else(SourceRanges::everywhere),
        proxy_protocol: proxy_protocol?,
        forwarded_for: forwarded_for?,
        trusted_proxies: trusted_proxies?,
        connections_per_address_max: connections_per_address_max?,
        connection_age_max: connection_age_max?,
        tls: tls?,
    };
    check_trust(report, listen, &rules)?;
    Ok(rules)
}

/// Checks the ranges of the proxies. An empty list trusts nobody.
fn trusted_proxies(report: &mut Report, listen: &Fields<'_>) -> Result<SourceRanges, Reported> {
    let Some(list) = listen.get("trusted_proxies") else {
        return Ok(SourceRanges::nowhere());
    };
    let items = list.items(report)?;
    // Every item is checked before the first error is returned.
    let ranges: Vec<_> = items
        .iter()
        .map(|item| item.parse(report, value::range))
        .collect();
    ranges.into_iter().collect()
}

/// Checks that somebody is trusted where the word of a proxy is taken, and not everybody.
fn check_trust(
    report: &mut Report,
    listen: &Fields<'_>,
    rules: &ConnectionRules,
) -> Result<(), Reported> {
    let reads = [
        (
            "proxy_protocol",
            rules.proxy_protocol == ProxyProtocol::Required,
        ),
        (
            "forwarded_for",
            rules.forwarded_for == ForwardedFor::XForwardedFor,
        ),
    ];
    let read = reads.into_iter().find(|(_, on)| *on).map(|(key, _)| key);
    let trusted = listen.get("trusted_proxies");
    match (read, trusted) {
        (Some(key), _) if rules.trusted_proxies.is_empty() => {
            let entry = trusted.or(listen.get(key)).unwrap_or(listen.entry());
            let message = format!(
                "{key} needs trusted_proxies; list the addresses that the proxy connects from"
            );
            return Err(entry.fail(report, message));
        }
        (Some(_), Some(trusted)) if rules.trusted_proxies.has_a_whole_family() => {
            let message = "trusts everybody, so whoever connects can choose an address; list the \
                           addresses that the proxy connects from";
            trusted.warn(report, message);
        }
        (None, Some(trusted)) if !rules.trusted_proxies.is_empty() => {
            let message = "is not used; set proxy_protocol or forwarded_for as well";
            trusted.warn(report, message);
        }
        _ => {}
    }
    Ok(())
}

/// Whether two listeners cannot be bound at once. `[::]` is for IPv4 as well.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: IpAddr, ip: IpAddr| {
        wide == ip
            || wide == Ipv6Addr::UNSPECIFIED
            || (wide == Ipv4Addr::UNSPECIFIED && ip.is_ipv4())
    };
    let same_port = one.port() == other.port() && one.port() != 0;
    same_port && (covers(one.ip(), other.ip()) || covers(other.ip(), one.ip()))
}
