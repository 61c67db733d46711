"""The checks that a scorecard counts, and what the validation report asked: data, read once."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from roles.core import libyaml

CATALOGUE = Path(__file__).with_name("catalogue.yml")
VALIDATION = Path(__file__).with_name("validation.yml")

Area = Literal[
    "security",
    "performance",
    "scalability",
    "recovery",
    "monitoring",
    "experience",
    "api",
    "integrity",
    "compliance",
    "operations",
]
Severity = Literal["critical", "high", "medium", "low"]


class Record(BaseModel):
    """Nothing unknown in it, and nothing changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Check(Record):
    """One thing that holds or does not. `title` says what holds when it passes.

    `answers` are items of the validation report, `role` is the module that mends it, and `control`
    is where a benchmark asks for it.
    """

    id: Annotated[str, Field(pattern=r"^[A-Z]{2,5}-\d{2,3}$")]
    area: Area
    title: Annotated[str, Field(min_length=5)]
    answers: tuple[str, ...] = ()
    severity: Severity
    evidence: Literal["behaviour", "configuration", "document"]
    role: str = ""
    control: str = ""


class Item(Record):
    """One box, action, blocker or fake feature of the validation report; `held` was its tick."""

    id: str
    held: bool
    says: str


class AreaThen(Record):
    """An area's section in the validation report, its grade there, and by our formula.

    `rebuilt` is the letter of the system as the report describes it, rebuilt in the lab, and `why`
    one sentence on what makes the difference.
    """

    section: int
    grade: str
    rebuilt: Literal["A", "B", "C", "D", "F"]
    why: str = ""


class Grades(Record):
    """The validation report's own grade and count."""

    overall: str
    checks: int
    passed: int


class Validation(Record):
    """What the validation report asked and how it graded."""

    grades: Grades
    areas: Mapping[Area, AreaThen]
    items: tuple[Item, ...]

    def says(self, item: str) -> str:
        """An item's words."""
        return next((each.says for each in self.items if each.id == item), "")


@functools.cache
def checks() -> tuple[Check, ...]:
    """Every check, in the catalogue's order."""
    return tuple(Check.model_validate(entry) for entry in _read(CATALOGUE))


@functools.cache
def ids() -> frozenset[str]:
    """The names of every check."""
    return frozenset(check.id for check in checks())


@functools.cache
def validation() -> Validation:
    """The validation report's items and grades."""
    return Validation.model_validate(_read(VALIDATION))


def _read(path: Path) -> Any:
    return libyaml.load(path.read_text())
