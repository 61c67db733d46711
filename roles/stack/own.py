"""The operator's own services, as the same type that the built-in ones have."""

from __future__ import annotations

from collections.abc import Iterator

from roles.site.schema import Own, Site
from roles.stack.service import Backup, Health, Limits, Route, Service, Tile, Waiver, memory_bytes


def own_services(site: Site) -> Iterator[tuple[Service, str]]:
    """Each with the reference of its image; the site's validation has judged every value."""
    for name, own in sorted(site.own.items()):
        yield _service(name, own), own.image


def _service(name: str, own: Own) -> Service:
    exceptions = {what: Waiver(_value(what), reason) for what, reason in own.exceptions.items()}
    return Service(
        name=name,
        number=own.number,
        image=name,
        purpose="a service of your own",
        limits=Limits(memory_bytes(own.memory), own.cpus),
        health=Health(test=own.health),
        networks=(own.network,),
        command=own.command,
        route=Route(own.host or name, own.port, own.policy, "a service of the operator's own"),
        data=tuple(own.data.items()),
        backup=Backup("stop", keep=tuple(own.data)) if own.data else None,
        tmpfs=own.tmpfs,
        secrets=own.secrets,
        environment=tuple(own.environment.items()),
        talks_to=own.talks_to,
        media=own.media,
        tile=Tile("Own", name.capitalize(), own.image.partition("@")[0], name),
        user=next((w for what, w in exceptions.items() if what.startswith("user")), None),
        writable_root=exceptions.get("writable root"),
        capabilities=tuple(w for what, w in exceptions.items() if what.startswith("capability")),
    )


def _value(what: str) -> str:
    """What an exception is about: the last word, or all of the root file system."""
    return "/" if what == "writable root" else what.rpartition(" ")[2]
