"""What a double of gluetun (https://github.com/qdm12/gluetun) reads: its variables and secrets.

It knows no provider's list of servers, so it takes the provider "custom" by WireGuard alone and
refuses the others by name instead of pretending.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SECRETS = "/run/secrets"


class SettingsError(Exception):
    """Gluetun would end at its start; the message says why."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One tunnel, and what is let in beside it."""

    interface: str
    addresses: tuple[str, ...]
    endpoint: tuple[str, int]
    public_key: str
    private_key: str = field(repr=False)
    preshared_key: str = field(repr=False)
    input_ports: tuple[int, ...]
    ping: tuple[str, ...]
    health: tuple[str, int]
    control: tuple[str, int]


def read(environment: Mapping[str, str]) -> Settings:
    """The settings of an environment. Raises SettingsError for what upstream would refuse."""
    provider, kind = environment["VPN_SERVICE_PROVIDER"], environment["VPN_TYPE"]
    if provider != "custom" or kind != "wireguard":
        raise SettingsError(f"this double has no servers of {provider} by {kind}")
    if environment["FIREWALL_ENABLED_DISABLING_IT_SHOOTS_YOU_IN_YOUR_FOOT"] != "on":
        raise SettingsError("this double has no way to run without its firewall")
    role = json.loads(environment["HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE"])
    if role:
        raise SettingsError("this double knows no roles for the control server")
    private_key = _secret(environment, "WIREGUARD_PRIVATE_KEY")
    preshared_key = _secret(environment, "WIREGUARD_PRESHARED_KEY")
    public_key = environment.get("WIREGUARD_PUBLIC_KEY", "")
    if not private_key:
        raise SettingsError("Wireguard settings: private key is not set")
    for name, key in (("private", private_key), ("public", public_key)):
        _check_key(name, key)
    if preshared_key:
        _check_key("pre-shared", preshared_key)
    return Settings(
        environment["VPN_INTERFACE"],
        _addresses(environment.get("WIREGUARD_ADDRESSES", "")),
        _endpoint(environment),
        public_key,
        private_key,
        preshared_key,
        tuple(int(port) for port in _listed(environment.get("FIREWALL_INPUT_PORTS", ""))),
        _listed(environment["HEALTH_ICMP_TARGET_IPS"]),
        _listener(environment["HEALTH_SERVER_ADDRESS"]),
        _listener(environment["HTTP_CONTROL_SERVER_ADDRESS"]),
    )


def _secret(environment: Mapping[str, str], name: str) -> str:
    if environment.get(name):
        return environment[name]
    file = Path(environment.get(f"{name}_SECRETFILE", f"{SECRETS}/{name.lower()}"))
    return file.read_text().strip() if file.exists() else ""


def _check_key(name: str, text: str) -> None:
    try:
        length = len(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise SettingsError(f"Wireguard settings: {name} key is not valid: {error}") from None
    if length != 32:
        raise SettingsError(f"Wireguard settings: {name} key is not valid: size {length}")


def _addresses(text: str) -> tuple[str, ...]:
    listed = _listed(text)
    if not listed:
        raise SettingsError("Wireguard settings: interface address is not set")
    for address in listed:
        if ipaddress.ip_interface(address).version == 6:
            raise SettingsError(f"interface address is IPv6 but IPv6 is not supported: {address}")
    return listed


def _endpoint(environment: Mapping[str, str]) -> tuple[str, int]:
    try:
        address = ipaddress.IPv4Address(environment.get("WIREGUARD_ENDPOINT_IP", ""))
        port = int(environment.get("WIREGUARD_ENDPOINT_PORT", ""))
    except ValueError as error:
        raise SettingsError(f"Wireguard server selection: endpoint is not valid: {error}") from None
    return str(address), port


def _listener(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    return address or "0.0.0.0", int(port)  # noqa: S104 - upstream's own meaning


def _listed(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())
