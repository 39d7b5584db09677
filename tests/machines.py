"""Machines of a network, on this one: network namespaces with an address each, joined by a switch. Linux and root only.

What runs in one of them reaches the others by their addresses and by nothing else: loopback is its own, and there is no
way to this machine's network or out. Processors, memory and disks are shared. See ip-netns(8) and veth(4).
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import psutil

_IP = shutil.which("ip")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Machine:
    """A machine of the network.

    Parameters
    ----------
    address
        Its own, in a network of 24 bits.
    switch
        The namespace of the switch.
    number
        Tells the machines apart; it also chooses the core that the machine's processes have.
    folder
        For what its processes log.
    """

    def __init__(self, address: str, switch: str, number: int, folder: Path) -> None:
        self.address, self._switch, self._number = address, switch, number
        self.log = folder / f"{address}.log"
        self._namespace, self._port = f"{switch}-{number}", f"port{number}"
        self._processes: list[subprocess.Popen[bytes]] = []
        _ip("netns", "add", self._namespace)
        cable = ["type", "veth", "peer", "name", "eth0", "netns", self._namespace]
        _ip("link", "add", "name", self._port, "netns", switch, *cable)
        _ip("-n", switch, "link", "set", self._port, "master", "bridge", "up")
        _ip("-n", self._namespace, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", self._namespace, "link", "set", device, "up")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Have what this thread connects, and whatever it starts, belong to the machine meanwhile."""
        with Path("/proc/thread-self/ns/net").open() as here, Path("/run/netns", self._namespace).open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(here.fileno())

    def start(self, command: Iterable[str]) -> subprocess.Popen[bytes]:
        """Start a process that lives as long as the machine; its programs are those of this interpreter's folder."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with self.inside(), self.log.open("ab") as log:
            process = subprocess.Popen(list(command), stdout=log, stderr=log, env=os.environ | {"PATH": path})
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(process.pid, {cores[self._number % len(cores)]})
        self._processes.append(process)
        return process

    def cut_off(self) -> None:
        """Pull its cable: what was sent is lost, and nobody is told."""
        _ip("-n", self._switch, "link", "set", self._port, "down")

    def close(self) -> None:
        """End its processes, and the machine."""
        family = [child for process in self._processes for child in _family(process)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        for process in self._processes:
            process.wait()
        _ip("netns", "delete", self._namespace)


@contextmanager
def network(addresses: Iterable[str], folder: Path) -> Iterator[dict[str, Machine]]:
    """Yield machines by their address, which live as long as the context."""
    switch = f"switch-{uuid4().hex[:8]}"
    machines: dict[str, Machine] = {}
    _ip("netns", "add", switch)
    try:
        _ip("-n", switch, "link", "add", "name", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for number, address in enumerate(addresses):
            machines[address] = Machine(address, switch, number, folder)
        yield machines
    finally:
        for machine in machines.values():
            machine.close()
        _ip("netns", "delete", switch)


def why_there_is_no_network() -> str | None:
    """Return what is missing for `network` here; None where it works."""
    if _IP is None:
        return "no program ip here: install iproute2"
    probe = f"probe-{uuid4().hex[:8]}"
    tried = subprocess.run([_IP, "netns", "add", probe], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"no network namespaces are permitted here ({tried.stderr.strip()}): they take root, with CAP_SYS_ADMIN"
    _ip("netns", "delete", probe)
    return None


def _ip(*args: str) -> None:
    done = subprocess.run([str(_IP), *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(args)}: {done.stderr}"


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    if process.poll() is not None:
        return []
    root = psutil.Process(process.pid)
    return [*root.children(recursive=True), root]
