"""What PostgreSQL is told about the memory that its container has.

Its defaults are for a machine of its own: it would plan with a cache of 4 GB, and let in as many
clients as the container may have processes, so that its own workers find no place.
"""

from __future__ import annotations

from dataclasses import replace

from roles.stack.service import Service

KIBIBYTE = 1024


def with_settings(postgres: Service) -> Service:
    """PostgreSQL with settings that follow from its limits.

    A quarter of the memory is its own cache, and three quarters are what it may count on together
    with the kernel's (PostgreSQL 18, 19.4.1 shared_buffers, 19.7.2 effective_cache_size). Half of
    the processes are for clients. A quarter of the memory is theirs for sorting (work_mem), and a
    sixteenth is for each of the three workers that vacuum (19.10 autovacuum_max_workers).
    """
    memory, clients = postgres.limits.memory // KIBIBYTE, postgres.limits.pids // 2
    settings = {
        "shared_buffers": f"{memory // 4}kB",
        "effective_cache_size": f"{memory * 3 // 4}kB",
        "max_connections": str(clients),
        "work_mem": f"{max(memory // 4 // clients, 64)}kB",
        "maintenance_work_mem": f"{max(memory // 16, 1024)}kB",
    }
    words = (word for name, value in settings.items() for word in ("-c", f"{name}={value}"))
    return replace(postgres, command=("postgres", *words))
