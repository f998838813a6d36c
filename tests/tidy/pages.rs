//! What pages say of the tests.

use std::path::Path;

/// The slowest tests that `tests/README.md` lists.
const SLOW_TESTS: usize = 10;

/// The tests that the table of a page lists, by their paths in `gateway`.
fn listed(page: &str) -> Vec<&str> {
    let cells = page.lines().filter_map(|line| {
        let (_, cell) = line.strip_prefix("| ")?.split_once(" | `")?;
        cell.strip_suffix("` |")
    });
    cells.filter(|it| it.contains("::")).collect()
}

/// Whether a file of `tests/gateway` holds the test.
fn exists(test: &str) -> bool {
    let (module, name) = test.rsplit_once("::").unwrap();
    let path = format!("tests/gateway/{}.rs", module.replace("::", "/"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.contains(&format!("fn {name}("))
}

#[test]
fn the_slow_tests_that_the_page_lists_exist() {
    let page = crate::read("tests/README.md");
    let tests = listed(&page);
    assert_eq!(tests.len(), SLOW_TESTS, "{tests:?}");
    let missing: Vec<&str> = tests.into_iter().filter(|it| !exists(it)).collect();
    assert!(
        missing.is_empty(),
        "tests/README.md lists tests that do not exist: {missing:?}"
    );
}

#[test]
fn a_test_that_does_not_exist_is_noticed() {
    let page = "| 9 | `memory::a_flood` |\n| where | `memory` |\n";
    assert_eq!(listed(page), ["memory::a_flood"]);
    assert!(!exists("memory::a_flood"));
    assert!(!exists("cellar::a_flood"));
}
