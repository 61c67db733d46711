"""Gluetun's double takes and refuses what the real program does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.cable import parsed
from tests.lab.images.doubles.gluetun_settings import SettingsError, read
from tests.lab.provider_servers import answer_to, name_in

KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
GIVEN = {
    "VPN_SERVICE_PROVIDER": "custom",
    "VPN_TYPE": "wireguard",
    "VPN_INTERFACE": "tun0",
    "FIREWALL_ENABLED_DISABLING_IT_SHOOTS_YOU_IN_YOUR_FOOT": "on",
    "FIREWALL_INPUT_PORTS": "8080",
    "HEALTH_ICMP_TARGET_IPS": "1.1.1.1,8.8.8.8",
    "HEALTH_SERVER_ADDRESS": "127.0.0.1:9999",
    "HTTP_CONTROL_SERVER_ADDRESS": "127.0.0.1:8000",
    "HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE": "{}",
    "WIREGUARD_ADDRESSES": "10.64.0.2/32",
    "WIREGUARD_ENDPOINT_IP": "203.0.113.7",
    "WIREGUARD_ENDPOINT_PORT": "51820",
    "WIREGUARD_PUBLIC_KEY": KEY,
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "wireguard_private_key"
    file.write_text(f"{KEY}\n")
    absent = str(tmp_path / "absent")
    return {
        **GIVEN,
        "WIREGUARD_PRIVATE_KEY_SECRETFILE": str(file),
        "WIREGUARD_PRESHARED_KEY_SECRETFILE": absent,
    }


def test_the_key_comes_from_the_secret_file(environment: dict[str, str]) -> None:
    settings = read(environment)
    assert settings.private_key == KEY
    assert settings.endpoint == ("203.0.113.7", 51820)
    assert settings.control == ("127.0.0.1", 8000)
    assert KEY not in repr(settings).replace(settings.public_key, "", 1)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"VPN_SERVICE_PROVIDER": "mullvad"}, "no servers of mullvad"),
        ({"VPN_TYPE": "openvpn"}, "by openvpn"),
        ({"FIREWALL_ENABLED_DISABLING_IT_SHOOTS_YOU_IN_YOUR_FOOT": "off"}, "firewall"),
        ({"WIREGUARD_PRIVATE_KEY_SECRETFILE": "/nonexistent"}, "private key is not set"),
        ({"WIREGUARD_PUBLIC_KEY": "c2hvcnQ="}, "public key is not valid: size 5"),
        ({"WIREGUARD_ADDRESSES": ""}, "address is not set"),
        ({"WIREGUARD_ADDRESSES": "fc00::2/128"}, "IPv6 is not supported"),
        ({"WIREGUARD_ENDPOINT_IP": "vpn.example"}, "endpoint is not valid"),
    ],
)
def test_what_gluetun_refuses_is_refused(
    environment: dict[str, str], changed: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        read({**environment, **changed})


def test_a_frame_says_where_it_goes() -> None:
    ethernet = bytes(12)
    head = b"\x45" + bytes(8) + b"\x11" + bytes(6) + bytes((198, 51, 100, 54))
    frame = ethernet + b"\x08\x00" + head + b"\x00\x00\x1f\x40" + bytes(4)
    assert parsed(frame) == ("udp", bytes((198, 51, 100, 54)), 8000)
    six = b"\x60" + bytes(5) + b"\x06" + bytes(17) + bytes(15) + b"\x01" + b"\x00\x00\x00\x50"
    assert parsed(ethernet + b"\x86\xdd" + six) == ("tcp", bytes(15) + b"\x01", 80)
    assert parsed(ethernet + b"\x08\x06" + bytes(28))[0] == ""


def test_the_providers_resolver_answers_what_was_asked() -> None:
    question = bytes.fromhex("123401000001000000000000") + b"\x05probe\x07example\0\0\1\0\1"
    assert name_in(question) == "probe.example"
    assert answer_to(question)[:2] == question[:2]
    assert answer_to(question).endswith(bytes((198, 51, 100, 54)))
