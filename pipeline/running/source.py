"""Where a run's images come from: a listing of a folder, or a manifest that names them. Effects: storage."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from pipeline.records import ImageRef
from pipeline.stages.listing import INVENTORY, Selection, is_manifest, select
from pipeline.stages.manifest import ManifestTable, joined, read_inventory, read_inventory_file, read_manifest
from pipeline.storage import ReadFault, StorageOptions, StoredObject, open_storage, read_whole

_PAGE = 1000


@dataclass(frozen=True)
class Source:
    """Where a run's images are listed, or named by a manifest; that is read once, however often they are asked for."""

    selection: Selection
    options: StorageOptions

    @property
    def url(self) -> str:
        """Folder, glob or manifest, as an absolute URL."""
        return self.selection.source

    @property
    def folder(self) -> str:
        """What the paths of images are below."""
        return self.selection.folder

    def images(self, *, with_versions: bool = True) -> Iterator[ImageRef]:
        """Yield the images in the order of their URLs, lazily.

        Where a manifest does not tell an image's ETag and size the store is asked, with a request for each image; one
        that is not there is yielded all the same: it will have its row.

        Parameters
        ----------
        with_versions
            Whether a store is asked for what a manifest does not tell.
        """
        if is_manifest(self.url):
            return select(self._named(with_versions=with_versions), self.selection)
        return select(open_storage(self.folder, self.options).list_pages(self.folder), self.selection)

    def within(self, deadline_s: float) -> "Source":
        """Return the same for a check that should be over in so many seconds."""
        return replace(self, options=self.options.within(deadline_s))

    def _named(self, *, with_versions: bool) -> Iterator[list[StoredObject]]:
        for start in range(0, len(self._manifest), _PAGE):
            yield _versioned(self._manifest.slice(start, _PAGE), self.options if with_versions else None)

    @cached_property
    def _manifest(self) -> ManifestTable:
        return _read_manifest(self.url, self.options)


def _read_manifest(source: str, options: StorageOptions) -> ManifestTable:
    data = read_whole(source, options)
    if not source.endswith(INVENTORY):
        return read_manifest(data, source)
    inventory = read_inventory(data, source)
    files = [read_inventory_file(read_whole(name, options), inventory, name) for name in inventory.files]
    return joined(files, source)


def _versioned(page: ManifestTable, options: StorageOptions | None) -> list[StoredObject]:
    rows = list(zip(*(page[name].to_pylist() for name in ("image", "etag", "size_bytes")), strict=True))
    untold = [url for url, etag, size_bytes in rows if etag is None or size_bytes is None]
    found: dict[str, StoredObject | ReadFault] = {}
    if untold and options is not None:
        found = dict(zip(untold, open_storage(untold[0], options).stat_many(untold), strict=True))
    return [_stored(url, etag, size_bytes, found.get(url)) for url, etag, size_bytes in rows]


def _stored(url: str, etag: str | None, size_bytes: int | None, found: StoredObject | ReadFault | None) -> StoredObject:
    if isinstance(found, StoredObject):
        return found
    return StoredObject(url, (etag or "").strip('"'), size_bytes if size_bytes is not None else -1)
