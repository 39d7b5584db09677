"""What stands for CUDA where there is none, so that every line which drives it is run.

`recording` is a CUDA graph on the CPU: operations are recorded as they run, and run again on the same memory when it is
replayed. `LateStreams` does nothing before somebody waits for it: memory that is used again too early, or read before
it was waited for, shows as a wrong row.
"""

import time
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode

VIEWS = ("view", "slice", "select", "unsqueeze", "expand", "t", "transpose", "permute", "as_strided", "detach", "alias")


class Recorder(TorchDispatchMode):
    """Remembers every operation with the tensors that it read and wrote."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result

    @torch.inference_mode()
    def replay(self):
        for func, args, kwargs, result in self.operations:
            name = func.overloadpacket.__name__
            if name in VIEWS:
                continue  # it looks at memory that is written anew by itself
            again = func(*args, **kwargs)
            if not name.endswith("_"):
                for old, new in zip(outputs(result), outputs(again), strict=True):
                    old.copy_(new)


def outputs(result):
    return [item for item in (result if isinstance(result, tuple | list) else [result]) if torch.is_tensor(item)]


class Graph:
    """``torch.cuda.CUDAGraph``."""

    replays = 0

    def replay(self):
        Graph.replays += 1
        self.recorder.replay()


@contextmanager
def recording(graph, pool, stream, capture_error_mode):
    """``torch.cuda.graph``."""
    assert capture_error_mode == "thread_local"
    graph.recorder = Recorder()
    with graph.recorder:
        yield


class Event:
    """``torch.cuda.Event``."""

    def __init__(self, **_settings):
        self.at = None

    def record(self, _stream):
        self.at = time.perf_counter()

    def query(self):
        return self.at is not None

    def synchronize(self):
        assert self.query()

    def elapsed_time(self, end):
        return (end.at - self.at) * 1000


class Stream:
    """``torch.cuda.Stream``."""

    def __init__(self):
        self.waited_for = []

    def wait_event(self, event):
        assert event.query()
        self.waited_for.append(event)


@contextmanager
def on_stream(stream):
    """``torch.cuda.stream``."""
    yield


def install(monkeypatch):
    """Put all of it in CUDA's place."""
    empty = torch.empty
    for name, stand_in in {
        "Stream": Stream,
        "Event": Event,
        "CUDAGraph": Graph,
        "stream": on_stream,
        "graph": recording,
        "synchronize": lambda: None,
        "current_stream": Stream,
        "graph_pool_handle": lambda: "a pool",
        "get_device_name": lambda: "a GPU",
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    # Pinned memory cannot be had without CUDA.
    monkeypatch.setattr(torch, "empty", lambda *args, **settings: empty(*args, **settings | {"pin_memory": False}))
    monkeypatch.setattr(Graph, "replays", 0)


class LateStep:
    """A `pipeline.stages.model.streams.Step`: done when somebody waits for it, or looks for the fourth time."""

    def __init__(self, streams, work, after):
        self.streams, self.work, self.after = streams, work, after
        self.is_over = False
        self.n_looks = 0

    def is_done(self):
        self.n_looks += 1
        if self.n_looks > 3:
            self.wait()
        return self.is_over

    def wait(self):
        while not self.is_over:
            self.streams.do_next(self)

    def seconds(self):
        assert self.is_over
        return 0.5


class LateStreams:
    """Queues that a device works off as late as it may, and in no other order than it must."""

    def __init__(self):
        self.queues = {"copy": [], "compute": []}
        self.n_host_memories = 0

    def host_memory(self, shape, dtype):
        self.n_host_memories += 1
        return torch.empty(tuple(shape), dtype=dtype)

    def queue(self, stream, work, after=()):
        step = LateStep(self, work, after)
        self.queues[stream].append(step)
        return step

    def do_next(self, wanted):
        """Do the first step of the queue that `wanted` is in, and before it what that waits for."""
        (queue,) = [queue for queue in self.queues.values() if wanted in queue]
        step = queue[0]
        for earlier in step.after:
            earlier.wait()
        with torch.inference_mode():
            step.work()
        step.is_over = True
        queue.remove(step)


class PromptStreams(LateStreams):
    """Queues that are worked off at once, as a launch that runs out of memory fails at once."""

    def queue(self, stream, work, after=()):
        step = super().queue(stream, work, after)
        step.wait()
        return step
