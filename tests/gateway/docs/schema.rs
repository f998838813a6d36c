//! The JSON Schema of the configuration, against the checker and the documentation.
//!
//! Every key of the schema is found by a walk over it. What the checker says of a document with just
//! that key tells whether both know the same keys, forms, values and bounds. A validator of schemas
//! judges whole configurations in `tests/deploy/test_config_schema.py`.

use std::collections::BTreeSet;
use std::process::Command;

use granit_parser::{Event, Parser, ScalarStyle};
use hubgate::config::{self, schema};
use serde_json::{Map, Value, json};

use super::examples::Example;
use super::page::{Page, code, rows};

/// The tables of keys, and where their keys are in the schema.
const TABLES: [(&str, &[&str]); 4] = [
    ("The process", &[""]),
    ("TLS", &["listen.tls.", "admin.tls."]),
    ("Hub", &["hub.", "hubs[]."]),
    ("Spoke", &["spokes[].", "spoke_defaults."]),
];

/// A key of the schema.
struct Key {
    /// As in errors of the checker, with `[]` for any place in a list.
    path: String,
    /// What the schema says of it, with what it refers to.
    parts: Vec<Map<String, Value>>,
}

impl Key {
    /// What the schema says, where several of its parts can.
    fn get(&self, keyword: &str) -> Option<&Value> {
        self.parts.iter().find_map(|part| part.get(keyword))
    }

    /// The names of the keys of a mapping.
    fn properties(&self) -> Option<BTreeSet<String>> {
        let properties = self.get("properties")?.as_object().unwrap();
        Some(properties.keys().cloned().collect())
    }

    /// What the checker says of the key when a document says only this of it.
    fn said(&self, value: &str) -> Vec<String> {
        let mut text = value.to_owned();
        let steps: Vec<_> = self.path.split('.').filter(|it| !it.is_empty()).collect();
        for (place, step) in steps.iter().enumerate().rev() {
            let (name, in_list) = match step.strip_suffix("[]") {
                Some(name) => (name, true),
                None => (*step, false),
            };
            // Without these, the checker does not look at what is beside them.
            let inner = steps.get(place + 1).copied();
            let beside = match (name, inner) {
                ("hub" | "hubs", Some(inner)) if inner != "url" => "url: 'https://hub/', ",
                ("jwt", Some("jwks_ca_file")) => "jwks_url: 'https://issuer/', ",
                _ => "",
            };
            let text_beside = text.replacen('{', &format!("{{{beside}"), 1);
            let value = if inner.is_some() { &text_beside } else { &text };
            text = match in_list {
                true => format!("{{{name}: [{value}]}}"),
                false => format!("{{{name}: {value}}}"),
            };
        }
        let (result, _) = config::parse_without_files(&text);
        let errors = result.err();
        let path = self.path.replace("[]", "[0]");
        let found = errors
            .iter()
            .flatten()
            .map(|it| (it.key.clone(), it.message.clone()));
        let found = found.filter_map(|(key, message)| {
            let below = key.strip_prefix(&path)?;
            let below = below.trim_start_matches('.');
            Some(match below {
                "" => message,
                key => format!("{key}: {message}"),
            })
        });
        found.collect()
    }
}

/// The schema itself, with a resolver of its references.
struct Schema(Value);

impl Schema {
    fn read() -> Self {
        Self(serde_json::from_str(schema::TEXT).unwrap())
    }

    /// All keys, in the order of the schema.
    fn keys(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        self.collect("", &self.0, &mut keys);
        assert!(keys.len() > 100, "{} keys", keys.len());
        keys
    }

    fn collect(&self, path: &str, schema: &Value, keys: &mut Vec<Key>) {
        let mut parts = Vec::new();
        self.resolve(schema, &mut parts);
        let key = Key {
            path: path.to_owned(),
            parts,
        };
        let below = match key.get("items") {
            Some(items) => vec![(format!("{path}[]"), items.clone())],
            None => Vec::new(),
        };
        let properties = key.get("properties").cloned().unwrap_or_default();
        let properties = properties.as_object().cloned().unwrap_or_default();
        let named = properties.into_iter().map(|(name, schema)| {
            let path = format!("{path}.{name}");
            (path.trim_start_matches('.').to_owned(), schema)
        });
        let below: Vec<_> = below.into_iter().chain(named).collect();
        keys.push(key);
        for (path, schema) in below {
            self.collect(&path, &schema, keys);
        }
    }

    /// A part of the schema, and those that it refers to or offers.
    fn resolve(&self, schema: &Value, parts: &mut Vec<Map<String, Value>>) {
        let schema = schema.as_object().unwrap();
        parts.push(schema.clone());
        if let Some(reference) = schema.get("$ref") {
            let pointer = reference.as_str().unwrap().trim_start_matches('#');
            self.resolve(self.0.pointer(pointer).unwrap(), parts);
        }
        for keyword in ["allOf", "anyOf"] {
            for part in schema
                .get(keyword)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                self.resolve(part, parts);
            }
        }
    }
}

/// The values behind `allowed: ` in a message.
fn allowed(message: &str) -> Option<BTreeSet<String>> {
    let (_, allowed) = message.split_once("allowed: ")?;
    Some(allowed.split(", ").map(str::to_owned).collect())
}

/// A value as the text that the checker sees.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[test]
fn the_schema_knows_the_keys_of_every_mapping() {
    let mut mappings = 0;
    for key in Schema::read().keys() {
        let Some(known) = key.properties() else {
            continue;
        };
        assert_eq!(
            key.get("additionalProperties"),
            Some(&json!(false)),
            "{}",
            key.path
        );
        let said = key.said("{x-unknown: 1}");
        let said = said.iter().find(|it| it.contains("unknown key"));
        let said = said.unwrap_or_else(|| panic!("{} takes any key", key.path));
        assert_eq!(allowed(said), Some(known), "{}", key.path);
        mappings += 1;
    }
    assert!(mappings > 20, "{mappings} mappings");
}

#[test]
fn the_schema_and_the_checker_want_the_same_kinds_of_values() {
    for key in Schema::read().keys() {
        let path = &key.path;
        let (value, wanted) = if key.get("items").is_some() {
            ("x", "wanted a list, found a single value")
        } else if key.properties().is_some() || key.get("maxProperties").is_some() {
            ("[]", "wanted a mapping, found a list")
        } else {
            ("{x: 1}", "wanted a single value, found a mapping")
        };
        let said = key.said(value);
        // A limit may be a single value as well.
        let wanted = match key.get("anyOf") {
            Some(_) if value == "[]" => "wanted a single value, found a list",
            _ => wanted,
        };
        assert!(
            said.iter().any(|it| it.contains(wanted)),
            "{path}: {said:?}"
        );
    }
}

#[test]
fn the_schema_requires_what_the_checker_requires() {
    for key in Schema::read()
        .keys()
        .iter()
        .filter(|it| it.properties().is_some())
    {
        let required = key.get("required").and_then(Value::as_array);
        let required: BTreeSet<_> = required.into_iter().flatten().map(scalar).collect();
        let missing: BTreeSet<_> = key
            .said("{}")
            .iter()
            .filter_map(|it| it.strip_suffix(": required key is missing"))
            .map(str::to_owned)
            .collect();
        assert_eq!(required, missing, "{}", key.path);
    }
}

#[test]
fn the_schema_lists_the_values_that_the_checker_allows() {
    let mut compared = 0;
    for key in Schema::read().keys() {
        let Some(listed) = key.get("enum").and_then(Value::as_array) else {
            continue;
        };
        let listed: BTreeSet<_> = listed.iter().map(scalar).collect();
        let said = key.said("x-unknown").join("\n");
        match allowed(&said) {
            Some(values) => assert_eq!(listed, values, "{}", key.path),
            None => assert!(said.contains("write true"), "{}: {said}", key.path),
        }
        for value in listed {
            let said = key.said(&format!("'{value}'")).join("\n");
            let refused = said.contains("allowed: ") || said.contains("write true");
            assert!(!refused, "{}: {value}: {said}", key.path);
        }
        compared += 1;
    }
    assert!(compared > 10, "{compared} lists of values");
}

#[test]
fn the_schema_has_the_bounds_of_the_checker() {
    let mut compared = 0;
    for key in Schema::read().keys() {
        let number = |keyword| key.get(keyword).and_then(Value::as_i64);
        let Some((least, most)) = number("minimum").zip(number("maximum")) else {
            continue;
        };
        for (number, good) in [
            (least - 1, false),
            (least, true),
            (most, true),
            (most + 1, false),
        ] {
            let said = key.said(&number.to_string());
            assert_eq!(said.is_empty(), good, "{}: {number}: {said:?}", key.path);
        }
        compared += 1;
    }
    assert!(compared > 10, "{compared} numbers");
}

/// The meaning of a key as the schema describes it: without links, and without what `required` says.
fn description(meaning: &str) -> String {
    let mut plain = String::new();
    let mut rest = meaning.strip_prefix("Required. ").unwrap_or(meaning);
    while let Some((before, link)) = rest.split_once('[') {
        match link.split_once("](") {
            Some((text, target)) if !text.contains(['[', ']']) => {
                let (_, after) = target.split_once(')').expect("the end of a link");
                plain += &format!("{before}{text}");
                rest = after;
            }
            _ => {
                plain += &format!("{before}[");
                rest = link;
            }
        }
    }
    plain + rest
}

#[test]
fn the_schema_has_the_meanings_and_defaults_of_the_page() {
    let page = Page::read("docs/configuration.md");
    let keys = Schema::read().keys();
    let mut compared = 0;
    for (heading, prefixes) in TABLES {
        for row in rows(&page.section(heading)) {
            for prefix in prefixes {
                let path = format!("{prefix}{}", code(&row[0]));
                let found = keys.iter().find(|key| key.path == path);
                let Some(key) = found else {
                    // A spoke has more keys than `spoke_defaults`.
                    assert!(*prefix == "spoke_defaults.", "{path} is not in the schema");
                    continue;
                };
                let said = key.parts[0].get("description").map(scalar);
                assert_eq!(said, Some(description(&row[2])), "{path}");
                let default = key.parts[0].get("default").cloned();
                let shown = (!row[1].is_empty()).then(|| yaml(code(&row[1])));
                assert_eq!(default, shown, "{path}");
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "{compared} keys");
}

/// A value as editors read it: by the core schema of YAML 1.2.
fn yaml(text: &str) -> Value {
    let mut open: Vec<(Value, Option<String>)> = vec![(Value::Null, None)];
    for event in Parser::new_from_str(text) {
        let (event, _) = event.unwrap();
        let value = match event {
            Event::Scalar(text, style, ..) => resolved(&text, style == ScalarStyle::Plain),
            Event::SequenceStart(..) => {
                open.push((json!([]), None));
                continue;
            }
            Event::MappingStart(..) => {
                open.push((json!({}), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().unwrap().0,
            _ => continue,
        };
        let (parent, key) = open.last_mut().unwrap();
        match parent {
            Value::Array(items) => items.push(value),
            Value::Object(fields) => match key.take() {
                Some(key) => drop(fields.insert(key, value)),
                None => *key = Some(scalar(&value)),
            },
            _ => *parent = value,
        }
    }
    open.remove(0).0
}

fn resolved(text: &str, plain: bool) -> Value {
    let number = text.starts_with(|it: char| it.is_ascii_digit() || "+-.".contains(it));
    match text {
        _ if !plain => text.into(),
        "" | "~" | "null" => Value::Null,
        "true" | "false" => (text == "true").into(),
        _ if number => {
            let integer = text.parse::<i64>().map(Value::from);
            let float = || text.parse::<f64>().map(Value::from);
            integer.or_else(|_| float()).unwrap_or_else(|_| text.into())
        }
        _ => text.into(),
    }
}

#[test]
fn a_configuration_names_a_schema_that_the_page_makes() {
    for page in Page::all() {
        for example in Example::WithSchema.on(&page) {
            let (first, _) = example.text.split_once('\n').unwrap();
            let (_, file) = first.split_once("$schema=").unwrap();
            let made = Example::Commands.on(&page);
            let command = format!("hubgate config-schema > {file}\n");
            assert!(made.iter().any(|it| it.text.contains(&command)), "{first}");
            config::parse(&example.text).unwrap_or_else(|errors| panic!("{first}: {errors}"));
        }
    }
    assert_eq!(Example::WithSchema.everywhere().len(), 1);
}

#[test]
fn hubgate_prints_the_schemas() {
    let print = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hubgate"));
        let output = command
            .arg("config-schema")
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(print(&[]), schema::TEXT);
    assert_eq!(print(&["--spoke-file"]), schema::of_spoke_file());
}
