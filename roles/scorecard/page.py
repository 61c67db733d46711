"""A scorecard and a comparison as pages of HTML: one file each, without scripts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from roles.scorecard import catalogue
from roles.scorecard.card import Scorecard
from roles.scorecard.comparison import Comparison
from roles.scorecard.grades import CAP, EARNING, LETTERS, WEIGHTS, Grade

TEMPLATES = Path(__file__).parents[2] / "templates" / "scorecard"
AREA_NAMES = {
    "recovery": "Disaster recovery",
    "experience": "User experience",
    "api": "APIs",
    "integrity": "Data integrity",
}


def scorecard(card: Scorecard) -> str:
    """The page of one scorecard."""
    return _environment().get_template("scorecard.html.j2").render(card=card)


def comparison(compared: Comparison) -> str:
    """The page of two scorecards."""
    return _environment().get_template("comparison.html.j2").render(compared=compared)


def area_name(area: str) -> str:
    """An area as a heading has it."""
    return AREA_NAMES.get(area, area.capitalize())


def width(score: Grade) -> str:
    """The length of a bar."""
    return f"{score.score or 0:.2f}%"


@cache
def _environment() -> Environment:
    # Everything on a page comes from a host: escape all of it, whatever a template is called.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"area_name": area_name, "width": width}
    environment.globals |= {
        "validation": catalogue.validation(),
        "weights": WEIGHTS,
        "letters": LETTERS,
        "cap": CAP,
        "earning": EARNING,
    }
    return environment
