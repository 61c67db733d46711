"""What Alloy's components make of an entry of the journal, as its configuration has them.

Known are those in use here (https://grafana.com/docs/alloy/latest/reference/components/loki/);
any other one is refused, and so is an argument that they do not have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .telemetry_loki import Line, selector
from .telemetry_syntax import Block, Reference

KNOWN = {
    "logging": {"level", "format"},
    "loki.relabel": {"forward_to", "max_cache_size"},
    "loki.source.journal": {"forward_to", "labels", "matches", "max_age", "path", "relabel_rules"},
    "loki.process": {"forward_to"},
    "loki.write": {"external_labels", "max_streams"},
    "rule": {"source_labels", "separator", "regex", "target_label", "replacement", "action"},
    "endpoint": {"url", "max_backoff_retries", "max_backoff_period", "min_backoff_period"},
    "stage.match": {"selector", "action", "drop_counter_reason"},
    "stage.replace": {"expression", "replace", "source"},
    "stage.static_labels": {"values"},
}
LEVELS = ("emerg", "alert", "crit", "error", "warning", "notice", "info", "debug")
Send = Callable[[Line], None]


class Pipeline:
    """The components of a file, joined as it says; `dropped` counts what a stage took out."""

    def __init__(self, root: Block) -> None:
        _check(root)
        self._components = {f"{block.name}.{block.label}": block for block in root.blocks}
        self.dropped: Counter[str] = Counter()
        self.source = next(b for b in root.blocks if b.name == "loki.source.journal")
        rules = str(self.source.attributes["relabel_rules"].name).removesuffix(".rules")
        self._rules = self._components[rules].blocks

    def urls(self) -> dict[str, str]:
        """The address of each loki.write."""
        writers = {n: b for n, b in self._components.items() if b.name == "loki.write"}
        return {name: block.blocks[0].attributes["url"] for name, block in writers.items()}

    def run(self, entry: Mapping[str, Any], moment: int) -> Iterator[tuple[str, Line]]:
        """Which lines an entry becomes, each with the loki.write that sends it."""
        labels = dict(self.source.attributes.get("labels", {}))
        for key, value in entry.items():
            labels[f"__journal_{key.lower()}"] = str(value)
        if str(entry.get("PRIORITY", "")).isdigit():
            labels["__journal_priority_keyword"] = LEVELS[int(entry["PRIORITY"])]
        relabel(labels, self._rules)
        kept = tuple(sorted((k, v) for k, v in labels.items() if v and not k.startswith("__")))
        line = Line(moment, kept, str(entry.get("MESSAGE", "")))
        for target in self.source.attributes["forward_to"]:
            yield from self._forward(target, line)

    def _forward(self, target: Reference, line: Line) -> Iterator[tuple[str, Line]]:
        block = self._components[target.name.removesuffix(".receiver")]
        if block.name == "loki.write":
            yield f"{block.name}.{block.label}", line
            return
        through = self._stages(block.blocks, line)
        if through is not None:
            for following in block.attributes["forward_to"]:
                yield from self._forward(following, through)

    def _stages(self, stages: list[Block], line: Line) -> Line | None:
        found: Line | None = line
        for stage in stages:
            if found is None:
                break
            found = self._stage(stage, found)
        return found

    def _stage(self, stage: Block, line: Line) -> Line | None:
        wanted = stage.attributes
        if stage.name == "stage.static_labels":
            labels = tuple(sorted({**dict(line.labels), **wanted["values"]}.items()))
            return Line(line.time, labels, line.text)
        if stage.name == "stage.replace":
            return Line(line.time, line.labels, replaced(line.text, wanted))
        passes, _ = selector(wanted["selector"])
        if not passes(line):
            return line
        if wanted.get("action") == "drop":
            self.dropped[wanted.get("drop_counter_reason", "match_stage")] += 1
            return None
        return self._stages(stage.blocks, line)


def relabel(labels: dict[str, str], rules: list[Block]) -> None:
    """Prometheus's relabelling, by its action "replace"."""
    for rule in rules:
        wanted = rule.attributes
        separator = wanted.get("separator", ";")
        value = separator.join(labels.get(name, "") for name in wanted["source_labels"])
        match = re.fullmatch(wanted.get("regex", "(.*)"), value, re.DOTALL)
        if match:
            new = match.expand(wanted.get("replacement", "$1").replace("$", "\\"))
            labels[wanted["target_label"]] = new


def replaced(text: str, wanted: Mapping[str, str]) -> str:
    """The text with everything that the expression captures replaced."""
    parts, end = [], 0
    for match in re.finditer(wanted["expression"], text):
        for number in range(1, len(match.groups()) + 1):
            start, stop = match.span(number)
            if start >= end:
                parts += [text[end:start], wanted.get("replace", "")]
                end = stop
    return "".join([*parts, text[end:]])


def _check(block: Block) -> None:
    for inner in block.blocks:
        if inner.name not in KNOWN:
            raise ValueError(f'cannot find the definition of component name "{inner.name}"')
        for name in inner.attributes:
            if name not in KNOWN[inner.name]:
                raise ValueError(f'unrecognized attribute name "{name}" in {inner.name}')
        for key in ("regex", "expression"):
            re.compile(inner.attributes.get(key, ""))
        if "selector" in inner.attributes:
            selector(inner.attributes["selector"])
        _check(inner)
