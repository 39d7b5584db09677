"""What clears up on the scheduler after a driver that was killed: nothing else would take its plugin away."""

from typing import Any

from distributed import SchedulerPlugin


class Caretaker(SchedulerPlugin):  # type: ignore[misc]
    """Takes a worker plugin away once the client that registered it is gone, however it went.

    Parameters
    ----------
    client_id
        Of the driver's client.
    plugin_name
        Of the worker plugin.
    """

    def __init__(self, client_id: str, plugin_name: str) -> None:
        self.client_id, self._plugin_name = client_id, plugin_name
        self.name = f"{plugin_name}-caretaker"

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Act, if it is ours that has left; Dask calls this by its name."""
        if client == self.client_id:
            scheduler.loop.add_callback(self._forget, scheduler)

    async def _forget(self, scheduler: Any) -> None:
        if self._plugin_name in scheduler.worker_plugins:
            await scheduler.unregister_worker_plugin(None, name=self._plugin_name)
        if self.name in scheduler.plugins:  # last: cluster.parcel takes the package away when this is gone
            scheduler.remove_plugin(self.name)
