"""docker-compose.yml without Docker: its services' own commands as processes of this machine, on loopback.

What a container would have and a process has not is made up for by three rules, and nothing else is changed:

- the file's own variables are set: ``LISTEN_ON`` to 127.0.0.1, and every port to a free one;
- the name of a service as a host, ``//NAME:``, is 127.0.0.1;
- what the image gives is here a folder as working directory, with a home and the volume ``demo`` in it, and the
  interpreter's own folder first on the path. Of this process's environment nothing else is handed on.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parent.parent / "docker-compose.yml"
LOOPBACK = "127.0.0.1"
START_S = 90.0

_VARIABLE = re.compile(r"\$\{(\w+)(?:(:?)-([^${}]*))?\}")


def read_file(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the file as Compose reads it with these variables set and no others.

    See https://github.com/compose-spec/compose-spec/blob/main/12-interpolation.md; the innermost comes first.
    """
    text = FILE.read_text(encoding="utf-8")
    while (replaced := _VARIABLE.sub(lambda found: _value(found, variables), text)) != text:
        text = replaced
    return yaml.safe_load(text)


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    name, counts_empty, default = found.groups()
    value = variables.get(name)
    return value if value or (value is not None and not counts_empty) else default or ""


class Composed:
    """Services of the file, started by their commands.

    Parameters
    ----------
    folder
        Stands for the image's /srv; what the services log comes to lie there, too.
    settings
        Variables of the file beside its ports.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._settings = dict(settings) | {"LISTEN_ON": LOOPBACK}
        names = sorted(set(re.findall(r"\w+_PORT", FILE.read_text(encoding="utf-8"))))
        self._settings |= dict(zip(names, map(str, free_ports(len(names))), strict=True))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.services = read_file(self._settings)["services"]
        self._hosts = re.compile(rf"//(?:{'|'.join(self.services)}):")

    def port(self, name: str) -> int:
        """Return what a port's variable is set to."""
        return int(self._settings[name])

    def up(self, name: str) -> None:
        """Start a service as soon as those that it depends on are healthy."""
        said = self.services[name]
        for other in said.get("depends_on", ()):
            self.await_healthy(other)
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                self._command(said), stdout=log, stderr=log, **self._surroundings(said), start_new_session=True
            )

    def run(self, name: str, *args: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Do what ``docker compose run NAME ARGS`` does, and return how it ended and what it said."""
        said = self.services[name] | ({"command": list(args)} if args else {})
        return subprocess.run(
            self._command(said),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            **self._surroundings(said),
        )

    def await_healthy(self, name: str) -> None:
        """Return once a service that was started passes its own health check.

        Raises
        ------
        AssertionError
            If it ends, or does not pass in time; with what it has logged.
        """
        deadline = time.monotonic() + START_S
        while not self._passes(self.services[name]):
            ended = self._processes[name].poll()
            assert ended is None, f"{name} ended with status {ended}: {self.log(name)}"
            assert time.monotonic() < deadline, f"{name} is not healthy after {START_S:g} s: {self.log(name)}"
            time.sleep(0.3)

    def log(self, name: str) -> str:
        """Return what a service has said."""
        return (self._folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def down(self) -> None:
        """End every service, with all that it has started."""
        for process in self._processes.values():
            _signal(process, signal.SIGTERM)
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            _signal(process, signal.SIGKILL)  # what a nanny may have left of its group
            process.wait()

    def _passes(self, service: Mapping[str, Any]) -> bool:
        kind, *check = service["healthcheck"]["test"]
        assert kind == "CMD"
        return subprocess.run(check, check=False, capture_output=True, **self._surroundings(service)).returncode == 0

    def _command(self, service: Mapping[str, Any]) -> list[str]:
        return [self._on_loopback(word) for word in [*service.get("entrypoint", ()), *service.get("command", ())]]

    def _surroundings(self, service: Mapping[str, Any]) -> dict[str, Any]:
        image = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(self._folder / "home")}
        if "PYTHONPATH" in os.environ:  # where the package is not installed, it is how the tests themselves find it
            image["PYTHONPATH"] = os.environ["PYTHONPATH"]
        said = service.get("environment", {})
        ours = {name: self._on_loopback(str(value)) for name, value in said.items() if value is not None}
        return {"env": image | ours, "cwd": self._folder}

    def _on_loopback(self, text: str) -> str:
        return self._hosts.sub(f"//{LOOPBACK}:", text)


def free_ports(n_ports: int) -> list[int]:
    """Return ports of loopback on which nothing listens."""
    probes = [socket.create_server((LOOPBACK, 0)) for _ in range(n_ports)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
