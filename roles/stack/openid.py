"""What Authelia needs to be a provider of OpenID Connect, where a service logs in by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from roles.core.secret import SecretSpec
from roles.stack.service import Service

PROVIDER_SECRETS = ("authelia_openid_key", "authelia_openid_hmac_secret")


def with_openid(provider: Service, clients: Iterable[Service]) -> Service:
    """Authelia with its signing key, where its clients find it.

    The filter lets its configuration read the key from a file
    (https://www.authelia.com/configuration/methods/files/#file-filters).
    """
    key, hmac = PROVIDER_SECRETS
    networks = (*provider.networks, *(client.networks[0] for client in clients))
    return replace(
        provider,
        networks=tuple(dict.fromkeys(networks)),
        secrets=(*provider.secrets, key, hmac),
        environment=(
            *provider.environment,
            ("AUTHELIA_IDENTITY_PROVIDERS_OIDC_HMAC_SECRET_FILE", f"/run/secrets/{hmac}"),
            ("X_AUTHELIA_CONFIG_FILTERS", "template"),
        ),
    )


def client_secret(service: str) -> str:
    """The name of the secret by which a service proves itself; its hash has _hash after that."""
    return f"{service}_openid_secret"


def specs(clients: tuple[str, ...]) -> Iterator[SecretSpec]:
    """The entries of the vault for these clients and their provider."""
    key, hmac = PROVIDER_SECRETS
    yield SecretSpec(key, "rsa", "signs what Authelia says of who logged in")
    yield SecretSpec(hmac, "password", "guards the codes and tokens of its logins", length=64)
    for name in clients:
        secret = client_secret(name)
        yield SecretSpec(secret, "password", f"how {name} proves itself to Authelia", length=72)
        yield SecretSpec(f"{secret}_hash", "crypt", "what Authelia stores of it", of=secret)
