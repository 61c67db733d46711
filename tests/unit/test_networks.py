"""Networks of any set of services: each has an interface and a subnet of its own, or is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.context import Context
from roles.stack.catalogue import HOMEPAGE
from roles.stack.networks import segments
from roles.stack.policy import PolicyError, enforce

# What dev_valid_name() of Linux takes, without what would be awkward in a rule.
INTERFACE = re.compile(r"[a-z][a-z0-9-]{0,14}")
NAMES = st.dictionaries(
    st.from_regex(r"homepage-[a-z]{0,12}", fullmatch=True), st.integers(1, 99), max_size=12
).filter(lambda numbers: len(set(numbers.values())) == len(numbers))


@given(NAMES, st.integers(16, 20))
def test_no_two_networks_share_an_interface_or_a_subnet(
    numbers: dict[str, int], length: int
) -> None:
    services = [
        replace(HOMEPAGE, name=name, number=number, image="homepage", route=None)
        for name, number in numbers.items()
    ]
    found = segments(f"172.16.0.0/{length}", "example.org", services)
    bridges = [segment.bridge for segment in found.values()]
    assert len(set(bridges)) == len(bridges)
    assert all(INTERFACE.fullmatch(bridge) for bridge in bridges)
    subnets = [IPv4Network(segment.subnet) for segment in found.values()]
    assert all(subnet.subnet_of(IPv4Network(f"172.16.0.0/{length}")) for subnet in subnets)
    apart = not any(one.overlaps(other) for one, other in combinations(subnets, 2))
    assert apart or length > 17
    try:
        enforce(services, found, {"homepage": "homepage@sha256:"})
    except PolicyError as error:
        refused = "site.network_prefix" in str(error)
    else:
        refused = False
    assert refused is not apart


@pytest.mark.parametrize("length", range(16, 21))
def test_every_prefix_that_a_site_may_have_is_enough_for_the_catalogue(
    make_context: Callable[..., Context], length: int
) -> None:
    stack = make_context(network_prefix=f"172.16.0.0/{length}").stack
    bridges = {segment.bridge for segment in stack.segments.values()}
    assert {"nx-edge", "nx-media", "nx-downloads", "nx-data", "nx-monitoring"} < bridges
