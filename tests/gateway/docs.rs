//! The documentation: every example works, every link leads somewhere, every list is complete.
//!
//! The commands of the pages need `sh`, `curl` and `openssl`, in addition to what `tests/run.sh`
//! gets.

mod commands;
mod examples;
mod page;
mod reference;
mod schema;

use examples::Example;
use page::{Page, root};

/// The HAProxy backend of the pages, with two servers that a test replaces.
pub(crate) fn haproxy_backend() -> String {
    let blocks = Example::HaproxyBackend.everywhere();
    let [block] = &blocks[..] else {
        panic!("several backends: {blocks:?}");
    };
    block.text.clone()
}

/// A longer README is not read to its end.
const README_WORDS_MAX: usize = 1_500;

#[test]
fn the_readme_has_at_most_1500_words() {
    let words = Page::read("README.md").text.split_whitespace().count();
    assert!(words <= README_WORDS_MAX, "{words} words");
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let mut links = 0;
    for page in Page::all() {
        let folder = page.path.parent().unwrap();
        for link in page.links() {
            links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let path = if file.is_empty() {
                page.path.clone()
            } else {
                folder.join(file)
            };
            let place = page.path.display();
            assert!(
                root().join(&path).is_file(),
                "{place}: no file for the link {link}"
            );
            if !anchor.is_empty() {
                let target = Page::read(path.to_str().unwrap());
                assert!(
                    target.anchors().contains(anchor),
                    "{place}: no heading for the link {link}"
                );
            }
        }
    }
    assert!(links > 0, "no page has a link");
}

#[test]
fn every_page_is_in_the_index_and_in_the_readme() {
    let index = Page::read("docs/README.md").links();
    let readme = Page::read("README.md").links();
    for page in Page::all() {
        let path = page.path.to_str().unwrap();
        let Some(name) = path.strip_prefix("docs/").filter(|it| *it != "README.md") else {
            continue;
        };
        assert!(index.iter().any(|it| it == name), "docs/README.md: {name}");
        assert!(readme.iter().any(|it| it == path), "README.md: {path}");
    }
}

#[test]
fn paths_of_the_repository_that_pages_name_exist() {
    let folders = [".ci/", "benches/", "docs/", "src/", "tests/"];
    let mut found = 0;
    for page in Page::all() {
        for span in page.code_spans() {
            if folders.iter().any(|folder| span.starts_with(folder)) {
                found += 1;
                let place = page.path.display();
                assert!(root().join(&span).exists(), "{place}: no {span}");
            }
        }
    }
    assert!(found > 0, "no page names a path");
}
