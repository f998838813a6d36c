//! axe-core, which finds what keeps people from using a page with a keyboard, a screen reader or weak eyes.

use std::path::Path;

use super::browser::Browser;

/// What is asked of it: one line for each finding.
const QUESTION: &str = "
    axe.run(document, {resultTypes: ['violations'], preload: false}).then(({violations}) =>
        violations.flatMap(({id, impact, help, nodes}) =>
            nodes.map(({target}) => `${impact}: ${id}: ${help}: ${target.join(' ')}`)))";

impl Browser {
    /// What axe-core finds about what the page shows, which is `view`: impact, rule, help and selector.
    pub(crate) async fn accessibility_findings(&mut self, view: &str) -> Vec<String> {
        // In a world apart, the policy of the page stays as it is.
        let question = format!("{};\n{QUESTION}", script());
        let findings = self.value_apart(&question).await;
        let findings = findings.as_array().unwrap().iter();
        findings
            .map(|it| format!("{view}: {}", it.as_str().unwrap()))
            .collect()
    }
}

/// The script of axe-core, which `tests/run.sh` installs.
fn script() -> String {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let path = target.join("test-tools/npm/node_modules/axe-core/axe.min.js");
    std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; install axe-core as tests/README.md says, or run tests/run.sh",
            path.display()
        )
    })
}
