"""The way of a request: the collector that takes spans in, and the store that shows them.

The old collector restarted for ever on names that upstream had removed. A configuration is judged
here by the current names, and on the host by the very program that would read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core import libyaml
from roles.core.model import Check, Desired, Package, Resource
from roles.core.operations import Plan, converge
from roles.site.schema import SiteError
from roles.stack.stack import config_folder
from roles.validator import accepted_by

ROLE = "tracing"
COLLECTOR, STORE = SERVICES = ("otel-collector", "jaeger")
FILES = {COLLECTOR: "collector.yml", STORE: "jaeger.yml"}
MEBIBYTE = 1024**2
# Some 5 KiB each.
MOST_TRACES = 5_000
# What the proxy writes of who asked (https://opentelemetry.io/docs/specs/semconv/http/http-spans/).
PERSONAL = (
    *("client.address", "client.port", "network.peer.address", "network.peer.port"),
    "user_agent.original",
)
# Current names of the components in use here
# (https://github.com/open-telemetry/opentelemetry-collector-contrib, release 0.161).
KNOWN = {
    "extensions": {"health_check", "healthcheckv2", "jaeger_query", "jaeger_storage"},
    "receivers": {"otlp"},
    "processors": {"attributes", "batch", "memory_limiter"},
    "exporters": {"debug", "jaeger_storage_exporter", "otlp_grpc", "otlp_http"},
}
# What a name that upstream removed or renamed is called now (its CHANGELOG.md).
RENAMED = {
    "exporters": {
        "jaeger": "otlp_http, which Jaeger takes since 1.35; removed in 0.86",
        "jaeger_thrift": "otlp_http; removed in 0.86",
        "logging": "debug; removed in 0.111",
        "loki": "otlp_http; removed in 0.131",
        "otlp": "otlp_grpc; renamed in 0.144",
        "otlphttp": "otlp_http; renamed in 0.144",
    },
    "extensions": {"memory_ballast": "the memory_limiter processor; removed in 0.109"},
}


def desired(context: Context) -> Desired:
    """Both programs' configurations, judged twice.

    Raises:
        SiteError: one names what the program no longer has.
    """
    here = [s for s in context.stack.services if s.name in SERVICES]
    # The collector's image has no program to ask it with.
    resources: list[Resource] = [Package("bash-static")]
    checks: list[Check] = []
    for service in here:
        name = FILES[service.name]
        content = context.template(
            f"{ROLE}/{name}",
            personal=PERSONAL,
            max_traces=MOST_TRACES,
            # The rest is for the program itself, and for what it holds beside traces.
            limit_mib=service.limits.memory * 3 // 4 // MEBIBYTE,
        )
        if found := list(problems(name, libyaml.load(content))):
            raise SiteError(found)
        resources += [*context.belongings(service), *context.config(service, {name: content})]
        path = f"{config_folder(service)}/{name}"
        checks.append(accepted_by(context, service, path, "validate", "--config="))
    return Desired(ROLE, tuple(resources), checks=tuple(checks))


def problems(file: str, configuration: Mapping[str, Any]) -> Iterator[str]:
    """What a current collector would end on, or silently do otherwise; one line each."""
    for kind, known in KNOWN.items():
        for name in configuration.get(kind) or {}:
            component = str(name).partition("/")[0]
            if component not in known:
                mend = RENAMED.get(kind, {}).get(component, f"one of {', '.join(sorted(known))}")
                yield f"{file}: {kind}.{name}: there is no such component; write {mend}"
    yield from _limiter(file, configuration)
    service = configuration.get("service") or {}
    if "address" in ((service.get("telemetry") or {}).get("metrics") or {}):
        yield (
            f"{file}: service.telemetry.metrics.address: removed in 0.128; write "
            "readers with a pull exporter of prometheus"
        )
    for name, pipeline in (service.get("pipelines") or {}).items():
        yield from _pipeline(file, name, pipeline, configuration)


def _limiter(file: str, configuration: Mapping[str, Any]) -> Iterator[str]:
    limiter = (configuration.get("processors") or {}).get("memory_limiter")
    place = f"{file}: processors.memory_limiter"
    if limiter is None:
        yield f"{place}: is missing; without it a flood of spans ends the program"
        return
    limit, spike = limiter.get("limit_mib", 0), limiter.get("spike_limit_mib", 0)
    if not limiter.get("check_interval"):
        yield f"{place}.check_interval: must be above zero; write 1s"
    if not 0 <= spike < limit:
        yield f"{place}.spike_limit_mib: {spike} must be less than limit_mib {limit}"


def _pipeline(
    file: str, name: str, pipeline: Mapping[str, Any], configuration: Mapping[str, Any]
) -> Iterator[str]:
    place = f"{file}: service.pipelines.{name}"
    for kind in ("receivers", "processors", "exporters"):
        for used in pipeline.get(kind) or ():
            if used not in (configuration.get(kind) or {}):
                yield f"{place}.{kind}: {used} is not configured"
    if next(iter(pipeline.get("processors") or ()), "") != "memory_limiter":
        yield f"{place}.processors: memory_limiter must be the first"


@pyinfra_deploy("Tracing")
def deploy(plan: Plan) -> None:
    """Both containers start with the stack."""
    converge(name="traces", plan=plan, role=ROLE)
