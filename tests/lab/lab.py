"""The lab as a whole: one at a time on a machine, gone without a trace afterwards."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import itertools
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from tests.lab import forwarding, identity, network, registry, remains, rootfs
from tests.lab.base import BARE, Bases
from tests.lab.command import LabError
from tests.lab.host import Host
from tests.lab.keys import ssh_pair
from tests.lab.layout import HostLayout
from tests.lab.lock import Lock
from tests.lab.network import FIRST_HOST, NEIGHBOUR
from tests.lab.paths import cache_dir, module_environment, state_dir
from tests.lab.process import spawn
from tests.lab.record import Record

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_RESERVED = {"neighbour", "attacker"}
_PARALLEL = 10
# In the environment of programs whose parent has the lab.
SHARED = "NEXUS_LAB_SHARED"


@dataclass(frozen=True)
class Places:
    """The folders of a lab and the key that logs in to its hosts."""

    cache: Path
    state: Path

    @classmethod
    def default(cls) -> Places:
        return cls(cache_dir(), state_dir())

    @property
    def key_file(self) -> Path:
        directory = self.cache / "keys"
        directory.mkdir(mode=0o700, exist_ok=True)
        return directory / "lab_ed25519"

    @property
    def hosts(self) -> Path:
        return self.state / "hosts"


class Lab:
    """Networks, registry and hosts as a context manager.

    Entering takes the machine's one lab (waiting at most `wait` seconds for another run to end)
    and removes what a killed run left. Leaving removes everything but the caches, also on SIGTERM,
    SIGHUP and at exit; with `persist` it stays up until `python -m tests.lab down`. With `attach`
    a lab that is up to stay, or the one of the program that started this one and said so with
    `share`, is used, and leaving removes only the hosts started here.
    Raises LabError when another lab is up, CommandError when a step of building it fails.
    """

    def __init__(
        self,
        run_id: str = "default",
        *,
        persist: bool = False,
        attach: bool = False,
        wait: float = 0,
    ) -> None:
        self.run_id = run_id
        self.persist = persist
        self.attach = attach
        self.neighbour = network.NEIGHBOUR_NAMESPACE
        self.attacker = network.ATTACKER_NAMESPACE
        self.registry = registry.ADDRESS
        self.places = Places.default()
        self.hosts: dict[str, Host] = {}
        self._lock = Lock(wait)
        self._numbers = threading.Lock()
        self._owner = 0

    @property
    def cache(self) -> Path:
        """What is kept between runs."""
        return self.places.cache

    @property
    def registry_ca(self) -> Path:
        """The certificate that clients of the registry must trust."""
        return registry.certificate_authority(self.cache)

    @property
    def key_file(self) -> Path:
        """The private key that logs in to every host, as root and as the sudo user `operator`."""
        return self.places.key_file

    @property
    def bases(self) -> Bases:
        """The states that hosts can start from."""
        return Bases(self.cache / "bases", rootfs.ensure(self.cache))

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise LabError("the lab needs root")
        if self.attach and (SHARED in os.environ or remains.is_up_to_stay()):
            return self
        self.attach = False
        self._lock.take(self.run_id)
        try:
            self._enter()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.persist and kind is None:
            self._release()
        else:
            self.close()

    def share(self) -> None:
        """Let the programs that this one starts join."""
        os.environ[SHARED] = self.run_id

    def _enter(self) -> None:
        if remains.is_up_to_stay():
            raise LabError("a lab is up to stay: python -m tests.lab down removes it")
        self._refuse_foreign()
        remains.remove(self.places.state)
        self._owner = os.getpid()
        self._on_signals()
        atexit.register(self.close)
        self.bases.remove_outdated()
        Record(self.run_id, self.persist, self.places.state, forwarding.current()).save()
        forwarding.enable()
        network.create()
        self._start_services()

    def _refuse_foreign(self) -> None:
        # A name with the lab's prefix is no proof that the lab made it.
        if found := network.foreign():
            raise LabError(f"in use by something that is not this lab: {', '.join(found)}")

    def _start_services(self) -> None:
        state, packages = self.places.state, self.cache / "packages"
        packages.mkdir(mode=0o755, exist_ok=True)
        addresses = [network.LAN.address(network.ROUTER), network.LAN.address6(network.ROUTER)]
        spawn(
            [sys.executable, "-m", "tests.lab.aptcache", str(packages), *addresses],
            log=state / "aptcache.log",
            pid_file=state / "aptcache.pid",
            env=module_environment(),
        )
        registry.start(self.cache, state)

    def start_host(self, name: str, base: str = BARE, *, ssh_port: int | None = 22) -> Host:
        """Make and boot a host, ready to log in.

        `base` is "bare" or what Host.save kept; `ssh_port` is where that base's SSH listens
        (None: do not wait for SSH). Raises LabError for a name in use or an unknown base.
        """
        host = self._make(name, base)
        host.start(ssh_port)
        return host

    def start_hosts(self, names: Iterable[str], base: str = BARE) -> list[Host]:
        """Several at once, as `start_host`."""
        with ThreadPoolExecutor(_PARALLEL) as pool:
            return list(pool.map(lambda name: self.start_host(name, base), names))

    def close(self) -> None:
        """Remove everything but the caches. Calling it again does nothing."""
        if self.attach:
            for host in self.hosts.values():
                if host.layout.directory.exists():
                    host.destroy()
            self.hosts.clear()
            return
        if self._owner != os.getpid():
            self._lock.release()
            return
        # A second signal must not break off the removal.
        for number in self._signals():
            signal.signal(number, signal.SIG_IGN)
        try:
            remains.remove(self.places.state)
        finally:
            self._release()

    def _release(self) -> None:
        self._owner = 0
        self.hosts.clear()
        for number in self._signals():
            signal.signal(number, signal.SIG_DFL)
        atexit.unregister(self.close)
        self._lock.release()

    def _make(self, name: str, base: str) -> Host:
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise LabError(f"{name!r} cannot name a host")
        bases = self.bases
        lowers = bases.lowers(base)
        with self._numbers, self._numbers_of_all_processes():
            layout = HostLayout(self.places.hosts / name, name, self._free_number(), lowers)
            if layout.directory.exists():
                raise LabError(f"the host {name!r} exists already")
            layout.directory.mkdir(mode=0o755, parents=True)
            layout.save()
        bases.copy_volumes(base, layout)
        login_key = ssh_pair(self.key_file, "nexus-lab")
        host = Host(layout, bases, self.key_file)
        host.prepare(lambda new: identity.write(new, login_key, self.registry, self.registry_ca))
        self.hosts[name] = host
        return host

    def free_name(self, stem: str) -> str:
        """A name for a host that nobody else of this lab gets: the stem, or one with a number."""
        taken = self.places.state / "names"
        taken.mkdir(mode=0o755, parents=True, exist_ok=True)
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        for name in itertools.chain((stem,), numbered):
            with contextlib.suppress(FileExistsError):
                if not (self.places.hosts / name).exists():
                    (taken / name).touch(exist_ok=False)
                    return name
        raise AssertionError

    @contextlib.contextmanager
    def _numbers_of_all_processes(self) -> Iterator[None]:
        self.places.hosts.mkdir(mode=0o755, parents=True, exist_ok=True)
        with (self.places.state / "numbers.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _free_number(self) -> int:
        taken = {
            HostLayout.load(path.parent).number for path in self.places.hosts.glob("*/host.json")
        }
        free = [number for number in range(FIRST_HOST, NEIGHBOUR) if number not in taken]
        if not free:
            raise LabError("no address is left for another host")
        return free[0]

    def _signals(self) -> tuple[signal.Signals, ...]:
        # Python lets only the main thread set handlers.
        is_main = threading.current_thread() is threading.main_thread()
        return (signal.SIGTERM, signal.SIGHUP) if is_main else ()

    def _on_signals(self) -> None:
        def leave(number: int, _frame: FrameType | None) -> None:
            raise SystemExit(128 + number)

        for number in self._signals():
            signal.signal(number, leave)


def find_host(name: str) -> Host:
    """A host of the lab that is up, whoever started it. Raises LabError for an unknown one."""
    places = Places.default()
    directory = places.hosts / name
    if not (directory / "host.json").exists():
        raise LabError(f"there is no host {name!r}")
    bases = Bases(places.cache / "bases", rootfs.ensure(places.cache))
    return Host(HostLayout.load(directory), bases, places.key_file)
