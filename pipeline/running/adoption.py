"""Whether a run may go on where another left off: one destination holds one source, one fingerprint, one plan."""

import math
from collections.abc import Mapping
from typing import Any

from pipeline.config import RunConfig
from pipeline.destination import RUN_JSON, Destination
from pipeline.errors import UsageError
from pipeline.records import ModelSpec
from pipeline.running import provenance
from pipeline.running.fingerprint import differences, ingredients
from pipeline.running.provenance import told_config
from pipeline.stages.outcomes import BY_PATH
from pipeline.storage import redact


def stored_run(config: RunConfig, destination: Destination, source: str, spec: ModelSpec) -> Mapping[str, Any] | None:
    """Return what ``run.json`` says of the run to go on with, None where a new one is to begin.

    Raises
    ------
    UsageError
        If the destination holds another run. A precision of ``auto`` is not compared: it is not known yet.
    """
    stored = None if config.overwrite else destination.read_json(RUN_JSON)
    if stored is not None:
        ours = {name: value for name, value in ingredients(spec).items() if value != "auto"}
        _refuse_if_other(destination, stored, source, ours)
        _refuse_if_narrower(destination, stored, config)
    return stored


def take_destination(
    config: RunConfig, destination: Destination, source: str, spec: ModelSpec, run_id: str, labels: str
) -> dict[str, Any]:
    """Return what ``run.json`` says from now on: ours where there was no run, else what the adopted run wrote.

    Of two runs that begin at the same time one writes it, and the other adopts it.

    Raises
    ------
    UsageError
        If the destination holds another run, or one that judges by other labels: it has just begun.
    """
    record = provenance.begin(run_id, config, source, spec, labels)
    if config.overwrite:
        destination.clear()
    if destination.write_new_json(RUN_JSON, record):
        return record
    stored = destination.read_json(RUN_JSON) or {}
    _refuse_if_other(destination, stored, source, {"labels": labels} | record["fingerprint_of"])
    _refuse_if_narrower(destination, stored, config)
    if not config.detach:
        destination.forget_signs()
    now = stored | {"config": record["config"], "versions": record["versions"]}
    if is_wider(stored, config):  # before the plan grows, or a third command could drop what is added
        destination.write_json(RUN_JSON, now)
    return now


def is_wider(stored: Mapping[str, Any], config: RunConfig) -> bool:
    """Return whether settings select other images than the last command's."""
    return _selected(stored["config"]) != _selected(told_config(config))


def _selected(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return which images settings select; lists, as JSON has them."""
    lists = {name: sorted(config.get(name) or ()) for name in ("include", "exclude")}
    return lists | {"limit": config.get("limit")}


def _refuse_if_narrower(destination: Destination, stored: Mapping[str, Any], config: RunConfig) -> None:
    """Raise `UsageError` if images that are planned would be selected no more: their rows would go."""
    theirs, ours = _selected(stored["config"]), _selected(told_config(config))
    if ours == theirs:
        return
    is_same_kind = (ours["include"], ours["exclude"]) == (theirs["include"], theirs["exclude"])
    admits_theirs = not ours["include"] or (theirs["include"] and {*ours["include"]} >= {*theirs["include"]})
    admits_theirs = admits_theirs and {*ours["exclude"]} <= {*theirs["exclude"]}
    least = math.inf if theirs["limit"] is None else theirs["limit"]
    if (ours["limit"] is None and admits_theirs) or (is_same_kind and (ours["limit"] or math.inf) >= least):
        return
    told = ", ".join(f"{name} {value}" for name, value in theirs.items() if value) or "no limit"
    raise UsageError(
        f"{destination.url} holds run {stored.get('run_id')} of more images (its {told}), whose rows would go: "
        "select at least those, or give another destination, or --overwrite to begin anew"
    )


def _refuse_if_other(
    destination: Destination, stored: Mapping[str, Any], source: str, decides: Mapping[str, Any]
) -> None:
    ours = {"source": redact(source), **decides}
    theirs = {
        "source": stored.get("source"),
        "labels": stored.get("labels", BY_PATH),
        **stored.get("fingerprint_of", {}),
    }
    differing = differences(ours, theirs)
    if differing:
        raise UsageError(
            f"{destination.url} holds run {stored.get('run_id')}, which has {'; '.join(differing)}: "
            "give another destination, or --overwrite to begin anew"
        )
