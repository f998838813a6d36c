//! Checks the hub in `hub`, or those in `hubs`.

use super::entry::{Entry, Fields, UnknownKeys};
use super::{Check, header, hub_credentials, hub_tls, list, value};
use crate::config::errors::{Report, Reported};
use crate::config::{Hub, HubUrl, defaults};

pub(super) const KEYS: &[&str] = &[
    "name",
    "url",
    "timeout",
    "connection_age_max",
    "protocol",
    "metadata",
    "headers",
    "credentials",
    "tls",
    "salvage_requests_max",
];

/// Where a Prometheus takes remote write.
const WRITE_PATH: &str = "/api/v1/write";

/// Paths that take no remote write in version 1.0 or 2.0, and are easily pasted instead of one that
/// does. `/write` is InfluxDB's protocol in VictoriaMetrics.
const OTHER_PATHS: &[&str] = &[
    "/api/v1",
    "/api/v1/",
    "/api/v1/otlp/v1/metrics",
    "/api/v1/query",
    "/api/v1/read",
    "/api/v1/write/",
    "/graph",
    "/metrics",
    "/query",
    "/write",
];

/// Checks `hub` and `hubs`, of which exactly one must be given.
pub(super) fn hubs(check: &mut Check<'_>, root: &Fields<'_>) -> Result<Vec<Hub>, Reported> {
    let (single, list_entry) = (root.get("hub"), root.get("hubs"));
    let listed = list(&mut check.report, root, "hubs");
    let exactly_one = match (single, list_entry) {
        (Some(single), Some(list_entry)) => {
            let message = format!(
                "hub is given as well, at {}; list all hubs in hubs, or give one in hub",
                single.place(list_entry.file)
            );
            Err(list_entry.fail(&mut check.report, message))
        }
        (None, _) if matches!(&listed, Ok(hubs) if hubs.is_empty()) => {
            let entry = list_entry.unwrap_or(root.entry());
            let message = "no hub is configured; give one in hub, or list several in hubs";
            Err(entry.fail(&mut check.report, message))
        }
        _ => Ok(()),
    };
    let entries = single.into_iter().chain(listed.iter().flatten());
    let hubs: Vec<_> = entries.map(|entry| hub(check, entry)).collect();
    exactly_one.and(listed)?;
    hubs.into_iter().collect()
}

fn hub(check: &mut Check<'_>, entry: &Entry<'_>) -> Result<Hub, Reported> {
    let report = &mut check.report;
    let fields = entry.fields(report, UnknownKeys::Shown, KEYS);
    let url = fields.parse_required(report, "url", HubUrl::parse);
    if let (Some(entry), Ok(url)) = (fields.get("url"), &url) {
        warn_of_path(report, entry, url);
    }
    let timeout = defaults::HUB_TIMEOUT;
    let timeout = fields.parse_or(report, "timeout", value::duration, timeout);
    let age_max = defaults::CONNECTION_AGE_MAX;
    let age_max = fields.parse_or(report, "connection_age_max", value::duration, age_max);
    let protocol = defaults::HUB_PROTOCOL;
    let protocol = fields.parse_or(report, "protocol", value::hub_protocol, protocol);
    let metadata = defaults::HUB_METADATA;
    let metadata = fields.parse_or(report, "metadata", value::hub_metadata, metadata);
    let headers = header::headers(report, &fields).and_then(|headers| {
        hub_credentials::refuse_second(report, &fields, &headers)?;
        Ok(headers)
    });
    if let (Ok(url), Ok(headers)) = (&url, &headers) {
        hub_credentials::warn_of_plaintext(report, &fields, url, headers);
    }
    let salvage_requests_max = fields.parse_or(
        report,
        "salvage_requests_max",
        value::salvage_requests,
        defaults::SALVAGE_REQUESTS_MAX,
    );
    let tls = match &url {
        Ok(url) => hub_tls::tls(check, &fields, url),
        Err(reported) => Err(*reported),
    };
    let authorization = hub_credentials::authorization(check, &fields);
    let name = name(check, &fields, url.as_ref());
    Ok(Hub {
        name: name?,
        url: url?,
        tls: tls?,
        timeout: timeout?,
        connection_age_max: age_max?,
        protocol: protocol?,
        metadata: metadata?,
        headers: headers?,
        authorization: authorization?,
        salvage_requests_max: salvage_requests_max?,
    })
}

/// Warns of a path that is no endpoint of remote write. It is no error, since whatever answers there
/// may have been told to take writes.
fn warn_of_path(report: &mut Report, entry: &Entry<'_>, url: &HubUrl) {
    let doubt = match url.path() {
        "/" => "has no path, so every write would be answered 502",
        path if OTHER_PATHS.contains(&path) => {
            "has a path that takes no remote write, so every write would be answered 502"
        }
        _ => return,
    };
    let (scheme, host) = (url.scheme().prefix(), url.authority());
    let message = format!("{doubt}; for a Prometheus, write {scheme}{host}{WRITE_PATH}");
    entry.warn(report, message);
}

fn name(
    check: &mut Check<'_>,
    fields: &Fields<'_>,
    url: Result<&HubUrl, &Reported>,
) -> Result<String, Reported> {
    let name_entry = fields.get("name");
    let name = match name_entry {
        Some(entry) => entry.parse(&mut check.report, value::hub_name)?,
        None => url.map_err(|reported| *reported)?.authority().to_owned(),
    };
    let entry = name_entry.unwrap_or(fields.entry());
    check
        .unique
        .claim_hub_name(&mut check.report, entry, &name)?;
    Ok(name)
}
