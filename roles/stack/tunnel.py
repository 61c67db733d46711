"""How gluetun is told which tunnel to make
(https://github.com/qdm12/gluetun-wiki/tree/main/setup)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from roles.site.schema import Vpn
from roles.stack.service import Service

INTERFACE = "tun0"
_WIREGUARD_FILE = "of your provider's WireGuard file"


def keys(vpn: Vpn) -> Iterator[tuple[str, str]]:
    """Vault entries with their notes. Gluetun looks for files of these names in /run/secrets."""
    if vpn.type == "openvpn":
        yield "openvpn_user", "your VPN provider's name for OpenVPN"
        yield "openvpn_password", "your VPN provider's password for OpenVPN"
        return
    yield "wireguard_private_key", f"PrivateKey {_WIREGUARD_FILE}"
    if vpn.preshared_key:
        yield "wireguard_preshared_key", f"PresharedKey {_WIREGUARD_FILE}"


def with_tunnel(vpn: Vpn, gluetun: Service, behind: Iterable[Service]) -> Service:
    """Gluetun with the site's tunnel, letting in what asks those that live in its network."""
    ports = sorted({str(port) for service in behind for port in service.ports_inside})
    environment = {
        "VPN_SERVICE_PROVIDER": vpn.provider,
        "VPN_TYPE": vpn.type,
        "VPN_INTERFACE": INTERFACE,
        "FIREWALL_INPUT_PORTS": ",".join(ports),
        "SERVER_COUNTRIES": ",".join(vpn.countries),
        "WIREGUARD_ADDRESSES": ",".join(vpn.addresses),
        "WIREGUARD_PUBLIC_KEY": vpn.public_key or "",
    }
    if vpn.endpoint:
        address, _, port = vpn.endpoint.rpartition(":")
        environment |= {"WIREGUARD_ENDPOINT_IP": address, "WIREGUARD_ENDPOINT_PORT": port}
    given = tuple((variable, value) for variable, value in environment.items() if value)
    return replace(
        gluetun,
        environment=(*gluetun.environment, *given),
        secrets=tuple(name for name, _ in keys(vpn)),
    )
