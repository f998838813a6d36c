//! Tests of who may connect: the keys of `listen` about addresses, proxies and connections.

use super::values::{refuses_each, with_line};
use super::{COMPLETE, parse};

#[test]
fn the_rules_of_connections_are_read() {
    let rules = |text| parse(text).expect("a valid configuration").listen.rules;
    let given = rules(COMPLETE);
    assert_eq!(given.connections_per_address_max, None);
    let default = rules(&with_line(""));
    assert_eq!(default.connections_per_address_max, Some(1024));
}

#[test]
fn bad_rules_of_connections_are_refused() {
    let table = "
listen: {connections_per_address_max: x} => 1:39: listen.connections_per_address_max => from 0 to
";
    refuses_each(table, with_line);
}
