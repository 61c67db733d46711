"""One host's scorecard: every check with its result, as it is kept in JSON."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ConfigDict, Field, ValidationError

from roles.scorecard.catalogue import Area, Check, Record
from roles.scorecard.grades import WEIGHTS, Grade, Status, grade
from roles.site.schema import Waiver

SCHEMA = 1
PROJECT = Path(__file__).parents[2] / "pyproject.toml"
BY_HAND = "nothing here mends it: it is the operator's to do"
SEVERITIES = tuple(WEIGHTS)
AREAS: tuple[Area, ...] = get_args(Area)


class CardError(Exception):
    """A file is no scorecard of this form; the text names it and the mend."""


class Failure(Record):
    """What was seen, what must be, and what mends it."""

    field: str
    observed: str
    expected: str
    mend: str


class Applied(Record):
    """A waiver of the inventory, and what it did for its check."""

    reason: str
    until: str
    state: Literal["used", "expired", "unneeded"]


class Result(Check):
    """A check, and what its tests came to."""

    status: Status = "not tried"
    seen: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    untried: tuple[str, ...] = ()
    waiver: Applied | None = None

    @property
    def holds(self) -> bool:
        """Whether nothing is to be done about it."""
        return self.status in {"passed", "waived", "not applicable"}

    @property
    def mends(self) -> tuple[str, ...]:
        """What to do, each once; of a check that does not hold there is always something."""
        found = tuple(dict.fromkeys(failure.mend for failure in self.failures if failure.mend))
        return found or (f"make apply: its role {self.role}" if self.role else BY_HAND,)


class Tool(Record):
    """What made a scorecard."""

    name: str
    version: str


class Scorecard(Record):
    """Everything about one run on one host. `time` is UTC, `seconds` its length."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_version: Literal[1] = Field(1, alias="schema")
    tool: Tool
    host: str
    time: str
    seconds: float
    commands: int
    checks: tuple[Result, ...]

    @cached_property
    def overall(self) -> Grade:
        return grade(self.checks)

    @cached_property
    def areas(self) -> Mapping[Area, Grade]:
        """The grade of every area that has a check."""
        grades = {area: grade(self.of(area)) for area in AREAS}
        return {area: each for area, each in grades.items() if each.counts}

    def of(self, area: Area) -> list[Result]:
        """An area's results."""
        return [each for each in self.checks if each.area == area]

    def to_mend(self) -> list[Result]:
        """What does not hold, the critical first."""
        found = [each for each in self.checks if not each.holds]
        return sorted(found, key=lambda each: SEVERITIES.index(each.severity))

    def unneeded(self) -> list[Result]:
        """Checks that hold without their waiver."""
        return [each for each in self.checks if each.waiver and each.waiver.state == "unneeded"]

    def blocking(self) -> list[Result]:
        """What must not stay: a critical or high check that a role of ours mends, and every check
        whose waiver has expired."""
        return [each for each in self.to_mend() if _ours(each) or _expired(each)]


def tool() -> Tool:
    """This project, by its name and version."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    return Tool(name=project["name"], version=project["version"])


def waived(results: Iterable[Result], waivers: Sequence[Waiver], today: date) -> list[Result]:
    """The results with the inventory's waivers applied; one counts until the end of its day."""
    wanted = {waiver.check: waiver for waiver in waivers}
    return [_waived(each, wanted.get(each.id), today) for each in results]


def _waived(result: Result, waiver: Waiver | None, today: date) -> Result:
    if waiver is None or result.status == "not applicable":
        return result
    expired = date.fromisoformat(waiver.until) < today
    state: Literal["used", "expired", "unneeded"] = "expired" if expired else "used"
    if result.status == "passed":
        state = "unneeded"
    status: Status = "waived" if state == "used" else result.status
    applied = Applied(reason=waiver.reason, until=waiver.until, state=state)
    return result.model_copy(update={"status": status, "waiver": applied})


def _ours(result: Result) -> bool:
    return result.severity in {"critical", "high"} and bool(result.role)


def _expired(result: Result) -> bool:
    return result.waiver is not None and result.waiver.state == "expired"


def document(card: Scorecard) -> str:
    """A scorecard as JSON, with the grades that follow from its checks."""
    content = card.model_dump(mode="json", by_alias=True)
    checks = content.pop("checks")
    areas = {area: _grades(each) for area, each in card.areas.items()}
    content["grades"] = {"overall": _grades(card.overall), "areas": areas}
    return json.dumps({**content, "checks": checks}, indent=2, ensure_ascii=False) + "\n"


def _grades(each: Grade) -> dict[str, Any]:
    return {
        "letter": each.letter,
        "score": each.score,
        "earned": each.earned,
        "counted": each.counted,
        "counts": dict(each.counts),
    }


def load(path: Path) -> Scorecard:
    """A scorecard from its JSON; the grades are computed again.

    Raises:
        CardError: the file cannot be read or is no scorecard of this form.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise CardError(f"{path}: {error.strerror}; make one with: make report") from None
    except ValueError:
        raise CardError(f"{path}: is no JSON; make it anew with: make report") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise CardError(f"{path}: is no scorecard of schema {SCHEMA}; make it anew: make report")
    content.pop("grades", None)
    try:
        return Scorecard.model_validate_json(json.dumps(content))
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise CardError(f"{path}: {place} has the wrong form; make it anew: make report") from None
