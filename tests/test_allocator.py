"""glibc's allocator in a process as a worker's: threads have arenas of their own, and what is freed may be unmapped."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is glibc's")

ACTIVATIONS = """
import ctypes, resource, sys, threading
from pipeline.engine.allocator import mend_allocator

SIZES = 25, 20, 25, 6  # MiB: more than one heap of an arena holds
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def of_all_threads(n_threads, work):
    barrier = threading.Barrier(n_threads)
    threads = [threading.Thread(target=lambda: (work(), barrier.wait())) for _ in range(n_threads)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()

def layers(n_passes):
    for _ in range(n_passes):
        blocks = [libc.malloc(size << 20) for size in SIZES]
        for block, size in zip(blocks, SIZES): libc.memset(block, 1, size << 20)
        for block in blocks: libc.free(block)

def n_faults():
    layers(2)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    layers(10)
    print(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)

of_all_threads(4, lambda: libc.free(libc.malloc(1000)))
if sys.argv[1] == "mended": assert mend_allocator()
of_all_threads(4, n_faults)
"""


def faults_of_each_thread(state):
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}  # as Dask's nanny sets it
    command = [sys.executable, "-c", ACTIVATIONS, state]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return [int(line) for line in done.stdout.split()]


def test_what_one_layer_has_freed_the_next_finds_in_place_on_every_thread():
    assert max(faults_of_each_thread("mended")) < 100
    assert min(faults_of_each_thread("as it is")) > 10_000  # the same pages, again and again
