"""What an expression of PromQL reads, as far as the rules, dashboards and the runbook need it."""

import re
import typing

import yaml

import promrules

SELECTOR = re.compile(r'([a-zA-Z_:][\w:]*)\{((?:[^"{}]|"(?:[^"\\]|\\.)*")*)}')
# The lists of labels behind these are no metrics.
GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
KEYWORDS = {"and", "or", "unless", "bool", "offset"}


class Selector(typing.NamedTuple):
    """A metric and its matchers, as they are written."""

    metric: str
    matchers: str


def selectors(expr):
    """Every series selector of an expression. A metric without braces is an error: it matches what a
    spoke has forged."""
    found = [Selector(metric, " ".join(matchers.split())) for metric, matchers in SELECTOR.findall(expr)]
    rest = SELECTOR.sub(" ", expr)
    rest = re.sub(r'"[^"]*"|\[[^]]*]', " ", rest)
    rest = GROUPING.sub(" ", rest)
    names = re.findall(r"(?<![\w.])[a-zA-Z_:][\w:]*\b(?!\s*\()", rest)
    bare = set(names) - KEYWORDS
    assert not bare, f"{bare} without matchers in {expr}"
    return found


def without_variables(expr, spoke):
    """An expression of a dashboard as Grafana sends it for one spoke."""
    replaced = expr.replace("$__rate_interval", "2m").replace("$spoke", spoke)
    assert "$" not in replaced, expr
    return replaced


def check(exprs, folder):
    """Lets promtool parse expressions, in an empty folder."""
    rules = [{"record": f"expression:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    groups = {"groups": [{"name": "expressions", "rules": rules}]}
    (folder / "expressions.yaml").write_text(yaml.safe_dump(groups))
    said = promrules.promtool("check", "rules", "expressions.yaml", folder=folder)
    assert f"{len(rules)} rules found" in said
