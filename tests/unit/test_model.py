"""What a role may declare, and what is refused before any host is asked."""

from __future__ import annotations

import pytest

from roles.core.model import (
    Absent,
    AbsentPackage,
    Chain,
    Desired,
    Directory,
    File,
    Group,
    Handler,
    Link,
    Observed,
    Package,
    Resource,
    Stack,
    Sysctl,
    Unit,
    User,
    paths,
)
from roles.core.snapshot import observed, question
from tests.unit import observation


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (File("/a", b"1"), File("/a", b"2"), "path /a"),
        (File("/a", b"1"), Link("/a", "/b"), "path /a"),
        (Directory("/a"), Absent("/a"), "path /a"),
        (Package("a"), Package("a"), "package a"),
        (Package("a"), AbsentPackage("a"), "package a"),
        (User("a", 1, "a"), User("a", 2, "a"), "user a"),
        (Sysctl("a.b", "0"), Sysctl("a.b", "1"), "kernel setting a.b"),
        (Unit("a"), Unit("a", enabled=False), "unit a"),
        (Stack("a", "/1", "l", ()), Stack("a", "/2", "l", ()), "stack a"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_thing_is_declared_once(one: Resource, other: Resource, words: str) -> None:
    with pytest.raises(ValueError, match=f"^role: {words} is declared twice$"):
        Desired("role", (one, other))


def test_things_of_two_kinds_may_share_a_name() -> None:
    chains = (Chain("4", "INPUT", (), "r"), Chain("6", "INPUT", (), "r"))
    handlers = (Handler("r", ("true",)),)
    Desired("role", (Package("a"), Group("a"), User("a", 1, "a"), Unit("a"), *chains), (), handlers)


def test_a_chain_names_a_handler_that_there_is() -> None:
    with pytest.raises(ValueError, match="role: no handler is named 'reload'"):
        Desired("role", (Chain("4", "INPUT", (), "reload"),))


def test_resources_come_in_the_order_of_declaration() -> None:
    files = (File("/b", b""), File("/a", b""))
    role = Desired("role", (files[0], Package("p"), files[1]))
    assert role.of(File) == files
    assert paths(role.resources) == ("/b", "/a")


def test_a_file_never_shows_what_it_holds() -> None:
    shown = repr(Desired("role", (File("/a", b"hush", secret=True),)))
    assert "hush" not in shown and "/a" in shown


def test_a_question_names_everything_that_is_managed_and_no_content() -> None:
    role = Desired("role", (File("/a", b"hush"), Directory("/d", purge=True), Unit("u")))
    asked = question([role, Desired("other", (Package("p"),))])
    assert asked["paths"] == ["/a", "/d"]
    assert asked["purge"] == ["/d"]
    assert asked["units"] == ["u"]
    assert asked["packages"] == ["p"]
    assert "hush" not in repr(asked)
    # Digests of one run say nothing in another.
    assert question([role])["nonce"] != asked["nonce"]


def test_an_answer_becomes_a_snapshot_with_every_part() -> None:
    role = Desired("role", (File("/a", b"x"), Package("p"), Unit("u")))
    seen = observed(observation.answer([role]))
    assert seen.packages == {"p"}
    assert seen.paths["/a"]["type"] == "file"
    assert seen.nonce == observation.NONCE
    assert vars(seen).keys() == vars(Observed()).keys()
