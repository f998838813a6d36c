//! The dependencies that hubgate ships, against the rules of `deny.toml`.
//!
//! `cargo deny check` judges the same and more; this needs nothing but cargo. What only tests and
//! benches use is not judged.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;
use spdx::{Expression, ParseMode};

/// The part of `deny.toml` that is judged here.
#[derive(Deserialize)]
struct Deny {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Named>,
    skip: Vec<Named>,
}

/// A crate by its name, or by its name and version: `syn@2`.
#[derive(Deserialize)]
struct Named {
    #[serde(rename = "crate")]
    spec: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// The packages that are built, and what depends on what, as `cargo metadata` prints it.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    dependencies: Vec<Requirement>,
}

#[derive(Deserialize)]
struct Requirement {
    name: String,
    req: String,
}

#[derive(Deserialize)]
struct Resolve {
    root: String,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    /// Absent for a normal dependency.
    kind: Option<String>,
}

/// What a command of cargo prints.
fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--locked", "--all-features"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

impl Deny {
    fn read() -> Self {
        toml::from_str(&crate::read("deny.toml")).unwrap()
    }
}

impl Named {
    fn is(&self, package: &Package) -> bool {
        match self.spec.split_once('@') {
            None => self.spec == package.name,
            Some((name, version)) => {
                let rest = package.version.strip_prefix(version);
                name == package.name && rest.is_some_and(|it| it.is_empty() || it.starts_with('.'))
            }
        }
    }
}

impl Metadata {
    fn read(targets: &[String]) -> Self {
        let filters = targets
            .iter()
            .flat_map(|it| ["--filter-platform", it.as_str()]);
        let arguments = ["metadata", "--format-version=1"]
            .into_iter()
            .chain(filters);
        let mut metadata: Self = serde_json::from_str(&cargo(arguments)).unwrap();
        // It also has the optional dependencies that a feature mentions and does not turn on
        // (`ring?/std`), which are never built.
        let targets = targets.iter().flat_map(|it| ["--target", it.as_str()]);
        let arguments = ["tree", "--edges=normal,build", "--prefix=none"];
        let tree = cargo(arguments.into_iter().chain(targets));
        let built: BTreeSet<&str> = tree.lines().map(|it| it.trim_end_matches(" (*)")).collect();
        let is_built = |it: &Package| {
            let line = format!("{} v{}", it.name, it.version);
            built.contains(&*line) || built.contains(&*format!("{line} (proc-macro)"))
        };
        let Self { packages, resolve } = &mut metadata;
        packages.retain(|it| it.id == resolve.root || is_built(it));
        metadata
    }

    /// The packages that normal and build dependencies lead to, without the root.
    fn shipped(&self) -> Vec<&Package> {
        let nodes: BTreeMap<_, _> = self.resolve.nodes.iter().map(|it| (&it.id, it)).collect();
        let mut reached = BTreeSet::from([&self.resolve.root]);
        let mut to_visit = vec![&self.resolve.root];
        while let Some(id) = to_visit.pop() {
            for edge in &nodes[id].deps {
                let ships = |it: &EdgeKind| it.kind.as_deref() != Some("dev");
                if edge.dep_kinds.iter().any(ships) && reached.insert(&edge.pkg) {
                    to_visit.push(&edge.pkg);
                }
            }
        }
        reached.remove(&self.resolve.root);
        let is_reached = |package: &&Package| reached.contains(&package.id);
        self.packages.iter().filter(is_reached).collect()
    }

    fn root(&self) -> &Package {
        let root = self.packages.iter().find(|it| it.id == self.resolve.root);
        root.unwrap()
    }
}

/// Every way in which the dependencies break the rules.
fn findings(deny: &Deny, metadata: &Metadata) -> Vec<String> {
    let shipped = metadata.shipped();
    let mut findings = Vec::new();
    check_licences(deny, &shipped, &mut findings);
    check_versions(deny, &shipped, &mut findings);
    for package in &shipped {
        let name = format!("{} {}", package.name, package.version);
        if deny.bans.deny.iter().any(|it| it.is(package)) {
            findings.push(format!("{name}: deny.toml forbids this crate"));
        }
        let source = package.source.as_deref().unwrap_or("a folder");
        let registry = source.strip_prefix("registry+").unwrap_or_default();
        if !deny.sources.allow_registry.iter().any(|it| it == registry) {
            findings.push(format!(
                "{name}: deny.toml does not allow {source} as a source"
            ));
        }
    }
    for Requirement { name, .. } in metadata
        .root()
        .dependencies
        .iter()
        .filter(|it| it.req == "*")
    {
        findings.push(format!("{name}: Cargo.toml must name a version"));
    }
    findings
}

fn check_licences(deny: &Deny, shipped: &[&Package], findings: &mut Vec<String>) {
    let mut unused = deny.licenses.allow.clone();
    for package in shipped {
        let licence = package.license.as_deref().unwrap_or_default();
        let allowed = Expression::parse_mode(licence, ParseMode::LAX).is_ok_and(|expression| {
            for requirement in expression.requirements() {
                unused.remove(&requirement.req.to_string());
            }
            expression.evaluate(|it| deny.licenses.allow.contains(&it.to_string()))
        });
        if !allowed {
            let Package { name, version, .. } = package;
            findings.push(format!(
                "{name} {version}: deny.toml does not allow the licence {licence:?}"
            ));
        }
    }
    let unused = unused.iter();
    findings.extend(unused.map(|it| format!("deny.toml allows {it}, which no dependency has")));
}

fn check_versions(deny: &Deny, shipped: &[&Package], findings: &mut Vec<String>) {
    let mut versions = BTreeMap::<&str, Vec<&Package>>::new();
    for package in shipped {
        versions.entry(&package.name).or_default().push(package);
    }
    versions.retain(|_, packages| packages.len() > 1);
    for skip in &deny.bans.skip {
        if !versions.values().flatten().any(|it| skip.is(it)) {
            findings.push(format!("{}: deny.toml skips no second version", skip.spec));
        }
    }
    for (name, mut packages) in versions {
        packages.retain(|package| !deny.bans.skip.iter().any(|it| it.is(package)));
        if packages.len() > 1 {
            let versions: Vec<&str> = packages.iter().map(|it| it.version.as_str()).collect();
            let versions = versions.join(" and ");
            findings.push(format!(
                "{name}: more than one version ({versions}); move to one, or add a skip to deny.toml"
            ));
        }
    }
}

#[test]
fn shipped_dependencies_keep_to_deny_toml() {
    let deny = Deny::read();
    let metadata = Metadata::read(&deny.graph.targets);
    assert!(metadata.shipped().iter().any(|it| it.name == "tokio"));
    crate::assert_none(&findings(&deny, &metadata));
}

mod controls {
    use serde_json::{Value, json};

    use super::{Deny, Metadata, findings};

    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn deny() -> Deny {
        let text = r#"
            graph.targets = []
            licenses.allow = ["Apache-2.0", "MIT"]
            bans.deny = [{ crate = "forbidden" }]
            bans.skip = [{ crate = "old@1" }]
            sources.allow-registry = ["https://github.com/rust-lang/crates.io-index"]
        "#;
        toml::from_str(text).unwrap()
    }

    fn package(name: &str, version: &str, license: &str) -> Value {
        json!({
            "id": format!("{name}@{version}"), "name": name, "version": version,
            "license": license, "source": CRATES_IO, "dependencies": [],
        })
    }

    /// Packages that keep to the rules: a root, and what it depends on.
    fn good() -> Vec<Value> {
        let mut root = package("root", "1.0.0", "none");
        root["source"] = Value::Null;
        root["dependencies"] = json!([{"name": "good", "req": "^1"}]);
        vec![
            root,
            package("good", "1.0.0", "GPL-3.0 OR (MIT AND Apache-2.0)"),
            package("old", "1.2.0", "MIT/Apache-2.0"),
            package("old", "2.0.0", "MIT"),
        ]
    }

    /// Judges packages, of which the first depends on each of the others.
    fn judge(packages: Vec<Value>, kind: Option<&str>) -> Vec<String> {
        let id = |it: &Value| it["id"].clone();
        let edge = |it: &Value| {
            let kind = if good().contains(it) { None } else { kind };
            json!({"pkg": id(it), "dep_kinds": [{"kind": kind}]})
        };
        let mut nodes: Vec<Value> = packages
            .iter()
            .map(|it| json!({"id": id(it), "deps": []}))
            .collect();
        nodes[0]["deps"] = packages[1..].iter().map(edge).collect();
        let resolve = json!({"root": id(&packages[0]), "nodes": nodes});
        let metadata = json!({"packages": packages, "resolve": resolve});
        let metadata: Metadata = serde_json::from_value(metadata).unwrap();
        findings(&deny(), &metadata)
    }

    #[test]
    fn good_dependencies_pass() {
        assert_eq!(judge(good(), None), [""; 0]);
    }

    #[test]
    fn each_fault_is_found_unless_only_tests_have_it() {
        let mut without_licence = package("bad", "1.0.0", "");
        without_licence["license"] = Value::Null;
        let mut from_git = package("bad", "1.0.0", "MIT");
        from_git["source"] = json!("git+https://example.com/bad");
        let mut from_folder = package("bad", "1.0.0", "MIT");
        from_folder["source"] = Value::Null;
        let faults = [
            (
                package("bad", "1.0.0", "GPL-3.0"),
                "the licence \"GPL-3.0\"",
            ),
            (
                package("bad", "1.0.0", "MIT AND Zlib"),
                "the licence \"MIT AND Zlib\"",
            ),
            (without_licence, "the licence \"\""),
            (from_git, "git+https://example.com/bad"),
            (from_folder, "a folder"),
            (package("forbidden", "1.0.0", "MIT"), "forbids this crate"),
            (
                package("good", "2.0.0", "MIT"),
                "more than one version (1.0.0 and 2.0.0)",
            ),
            (
                package("old", "10.0.0", "MIT"),
                "more than one version (2.0.0 and 10.0.0)",
            ),
        ];
        for (fault, text) in faults {
            let packages = [good(), vec![fault]].concat();
            for kind in [None, Some("build")] {
                let findings = judge(packages.clone(), kind);
                assert!(
                    findings.len() == 1 && findings[0].contains(text),
                    "{text}: {findings:?}"
                );
            }
            assert_eq!(judge(packages, Some("dev")), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_wildcard_version_is_found() {
        let mut packages = good();
        packages[0]["dependencies"][0]["req"] = json!("*");
        assert_eq!(
            judge(packages, None),
            ["good: Cargo.toml must name a version"]
        );
    }

    #[test]
    fn unused_permissions_are_found() {
        let packages = good()
            .into_iter()
            .filter(|it| it["name"] == "root")
            .collect();
        assert_eq!(
            judge(packages, None),
            [
                "deny.toml allows Apache-2.0, which no dependency has",
                "deny.toml allows MIT, which no dependency has",
                "old@1: deny.toml skips no second version",
            ]
        );
    }
}
