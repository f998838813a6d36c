//! The limits of a spoke: their values, their modes, and where each of them comes from.

use std::time::Duration;

use crate::config::{LimitAnswer, LimitMode, LimitSet, SpokeLimits};
use crate::reasons::Limit;

use super::values::{refuses_each, with_line};
use super::{DIGEST, parse};

/// The limits of a spoke with these `limits`, where `spoke_defaults` has those.
fn limits(defaults: &str, spoke: &str) -> SpokeLimits {
    let text = format!(
        "hub: {{url: http://hub/}}\nspoke_defaults: {{limits: {{{defaults}}}}}\nspokes:\n- name: a\n  \
         credentials: [token_sha256: {DIGEST}]\n  limits: {{{spoke}}}\n"
    );
    parse(&text).expect(&text).spokes[0].limits
}

fn observed(defaults: &str, spoke: &str) -> Vec<Limit> {
    let limits = limits(defaults, spoke);
    let is_observed = |limit: &Limit| limits.mode(*limit) == LimitMode::Observe;
    Limit::ALL.into_iter().filter(is_observed).collect()
}

#[test]
fn without_limits_nothing_new_is_limited() {
    assert_eq!(limits("", ""), SpokeLimits::DEFAULT);
    let default = SpokeLimits::DEFAULT;
    let none = [
        Limit::ActiveSeries,
        Limit::BytesInFlight,
        Limit::RequestsInFlight,
        Limit::SamplesAge,
        Limit::SamplesPerSecond,
    ];
    assert!(none.iter().all(|limit| default.number(*limit).is_none()));
    assert_eq!(default.answer, LimitAnswer::ServiceUnavailable);
}

#[test]
fn each_limit_has_its_value() {
    let given = limits(
        "samples_per_second: 5, requests_in_flight_max: 64",
        "samples_per_second: 50000, bytes_in_flight_max: 64MiB, active_series_max: 100000, \
         series_per_request_max: 1, labels_per_series_max: 2, label_value_bytes_max: 3, \
         samples_age_max: 1h, samples_ahead_max: 0s, answer: 429",
    );
    let expected = SpokeLimits {
        samples_per_second: Some(50_000),
        requests_in_flight_max: Some(64),
        bytes_in_flight_max: Some(64 << 20),
        active_series_max: Some(100_000),
        series_per_request_max: 1,
        labels_per_series_max: 2,
        label_value_bytes_max: 3,
        samples_age_max: Some(Duration::from_secs(3600)),
        samples_ahead_max: None,
        answer: LimitAnswer::TooManyRequests,
        observed: LimitSet::EMPTY,
        named: LimitSet::from_iter(Limit::ALL),
    };
    assert_eq!(given, expected);
}

#[test]
fn zero_is_no_limit() {
    let given = limits(
        "samples_per_second: 5, requests_in_flight_max: 5, bytes_in_flight_max: 5, \
         active_series_max: 5, samples_age_max: 5s",
        "samples_per_second: 0, requests_in_flight_max: {limit: 0}, bytes_in_flight_max: 0, \
         active_series_max: 0, samples_age_max: 0s",
    );
    let expected = SpokeLimits {
        named: given.named,
        ..SpokeLimits::DEFAULT
    };
    assert_eq!(given, expected);
}

#[test]
fn the_nearest_mode_counts() {
    let one = "samples_per_second: {limit: 5, mode: observe}";
    let rate = vec![Limit::SamplesPerSecond];
    let all = Limit::ALL.to_vec();
    for (defaults, spoke, expected) in [
        ("", one, &rate),
        (one, "", &rate),
        (one, "samples_per_second: 6", &rate),
        (one, "samples_per_second: {mode: enforce}", &vec![]),
        (one, "mode: enforce", &vec![]),
        ("mode: observe", "", &all),
        ("mode: observe", "mode: enforce", &vec![]),
        ("", "mode: observe", &all),
        (
            "mode: enforce",
            "samples_per_second: {mode: observe}",
            &rate,
        ),
    ] {
        assert_eq!(&observed(defaults, spoke), expected, "{defaults} | {spoke}");
    }
    let both = limits(one, "samples_per_second: {mode: enforce}");
    assert_eq!(both.samples_per_second, Some(5));
}

#[test]
fn bad_limits_are_refused() {
    let table = "
samples_per_second: -1 => 1:47: spoke_defaults.limits.samples_per_second => from 0 to 10000000
samples_per_second: 1.5 => 1:47: spoke_defaults.limits.samples_per_second => not a count
samples_per_second: ~ => 1:47: spoke_defaults.limits.samples_per_second => has no value
samples_per_second: [1] => 1:47: spoke_defaults.limits.samples_per_second => wanted a single value, found a list
samples_per_second: {max: 1} => 1:48: spoke_defaults.limits.samples_per_second => unknown key
samples_per_second: {limit: x} => 1:55: spoke_defaults.limits.samples_per_second.limit => not a count
samples_per_second: {mode: warn} => 1:54: spoke_defaults.limits.samples_per_second.mode => unknown value \"warn\"; allowed: enforce, observe
requests_in_flight_max: 10000001 => 1:51: spoke_defaults.limits.requests_in_flight_max => from 0 to 10000000
active_series_max: 10000001 => 1:46: spoke_defaults.limits.active_series_max => from 0 to 10000000
bytes_in_flight_max: x => 1:48: spoke_defaults.limits.bytes_in_flight_max => not a size
bytes_in_flight_max: 2000GiB => 1:48: spoke_defaults.limits.bytes_in_flight_max => out of range
samples_age_max: 10 => 1:44: spoke_defaults.limits.samples_age_max => not a duration
samples_age_max: 3651d => 1:44: spoke_defaults.limits.samples_age_max => allowed: up to 3650d, or 0s for no limit
mode: off => 1:33: spoke_defaults.limits.mode => unknown value \"off\"; allowed: enforce, observe
answer: 500 => 1:35: spoke_defaults.limits.answer => unknown value \"500\"; allowed: 503, 429
samples_per_seconds: 1 => 1:27: spoke_defaults.limits => samples_per_second
";
    refuses_each(table, |written| {
        with_line(&format!("spoke_defaults: {{limits: {{{written}}}}}"))
    });
}

#[test]
fn a_weight_comes_from_the_spoke_or_from_the_defaults() {
    let weights = |defaults: &str, spoke: &str| {
        let text = format!(
            "hub: {{url: http://hub/}}\nspoke_defaults: {{{defaults}}}\nspokes:\n- name: a\n  \
             credentials: [token_sha256: {DIGEST}]\n  {spoke}\n"
        );
        parse(&text).map(|config| config.spokes[0].weight.get())
    };
    assert_eq!(weights("", ""), Ok(1));
    assert_eq!(weights("weight: 7", ""), Ok(7));
    assert_eq!(weights("weight: 7", "weight: 1000"), Ok(1000));
    for wrong in [
        "0",
        "1001",
        "-1",
        "+1",
        "1.5",
        "high",
        "\"\"",
        "99999999999",
    ] {
        let errors = weights("", &format!("weight: {wrong}")).unwrap_err();
        let errors = errors.to_string();
        assert!(
            errors.contains("is not a weight; write a whole number from 1 to 1000"),
            "{errors}"
        );
        assert!(errors.contains(":6:"), "{errors}");
    }
}
