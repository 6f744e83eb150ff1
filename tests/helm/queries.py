"""The queries that ship with the chart, and what they ask of the server: names of metrics, labels, words in labels."""

import json
import re

import yaml

from chart import CHART

# What Prometheus adds, and `le`, which every histogram has.
SCRAPED = {"namespace", "job", "instance", "le"}

# Of rules whose metrics are not the server's.
FOREIGN = "campaign-automation-kubernetes"

# Names that stand before a bracket, or in the language itself.
WORDS = re.compile(r"\b(by|on|unless|and|or|offset|vector|time)\b")


def dashboard():
    """The queries of each panel, as Grafana would ask them: by title."""
    panels = json.loads((CHART / "files/dashboard.json").read_text())["panels"]
    return [
        (panel["title"], filled_in(target["expr"]), target)
        for panel in panels if panel["type"] != "row" for target in panel["targets"]
    ]


def filled_in(query):
    """With variables as they are when all is shown."""
    query = query.replace("$__rate_interval", "1m").replace("$namespace", ".*").replace("$job", ".*")
    assert "$" not in query, f"a variable that is not filled in: {query}"
    return query


def alerts():
    """The rules about the server's own metrics: name and query."""
    groups = yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"]
    return [(rule["alert"], rule["expr"]) for group in groups if group["name"] != FOREIGN for rule in group["rules"]]


def asked(query):
    """What a query asks for: metrics with the labels that their selectors name, labels that results are grouped by, and words that
    labels are compared with."""
    grouped = {label.strip() for found in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in found.split(",")}
    rest = re.sub(r"\b(?:by|on) \([^)]*\)", " ", query)
    metrics, words = {}, set()
    for name, selector in re.findall(r"\b([a-z]\w+)\b(?!\s*\()(?:\{([^}]*)\})?", re.sub(r"\[[^\]]*\]", "", WORDS.sub(" ", rest))):
        matchers = re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', selector)
        metrics.setdefault(name, set()).update(label for label, _, _ in matchers)
        for label, how, value in matchers:
            if label not in SCRAPED and how in ("=", "=~", "!="):
                words.update((label, word) for word in value.split("|"))
    return metrics, grouped, words
