"""What functions there are, and what holds for each: the registry's models and their settings."""

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cloud_fn.config import Instance
from cloud_fn.errors import RegistryError, UnknownModel
from cloud_fn.functions.gains import told_together
from cloud_fn.functions.settings import (
    Resolved,
    Settings,
    SettingsError,
    changed,
    resolve,
    split_model,
)
from cloud_fn.registry.catalog import Catalog
from cloud_fn.registry.function_store import FunctionDocument, FunctionStore
from cloud_fn.registry.manifest import Manifest, is_name
from protos.documents import as_builtin


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One value that holds, as JSON has it, and whose it is; see :class:`Resolved`.

    What is no setting and shown beside them was ``measured``; a setting that follows from the one
    for ``batching`` is that one's.
    """

    value: object
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One function. ``version`` is 0 where its model is not published; ``changed`` may be empty."""

    name: str
    model: str
    version: int
    changed: str
    settings: Mapping[str, Setting]

    @property
    def own(self) -> Mapping[str, object]:
        """The values that its owner asked for."""
        return {
            field: each.value for field, each in self.settings.items() if each.source == "function"
        }


class Specifications:
    """The functions of one registry, on a server of these defaults. Safe in many threads."""

    def __init__(self, catalog: Catalog, store: FunctionStore, defaults: Instance) -> None:
        self._catalog = catalog
        self._store = store
        self._defaults = defaults
        self._nothing = resolve(None, defaults)
        self._resolved: dict[str, tuple[FunctionDocument, Resolved]] = {}

    def resolved(self, name: str) -> Resolved:
        """What holds for *name* now; costs one ``stat``.

        Raises:
            RegistryError: its settings cannot be read.
        """
        return self._resolve(name, self._store.get(name))

    def target(self, name: str, version: str = "") -> tuple[str, str]:
        """Which model, and which version of it, a request to *name* is for.

        A version that the request names wins over the settings'.
        """
        return _target(name, version, self._store.get(name))

    def asked(self, name: str, version: str = "") -> tuple[Manifest, Resolved]:
        """What a request to *name* runs, and what holds for it, both as the settings are now.

        Raises:
            UnknownModel: there is no such model or version.
            RegistryError: its settings or its manifest cannot be read.
        """
        document = self._store.get(name)
        manifest = self._catalog.manifest(*_target(name, version, document))
        return manifest, self._resolve(name, document)

    def all(self) -> tuple[Described, ...]:
        """Each model that is published, and each function that has settings, by name."""
        return tuple(map(self._described, sorted({*self._catalog.names(), *self._store.names()})))

    def show(self, name: str) -> Described:
        """One function.

        Raises:
            UnknownModel: no model has its name, and no settings.
        """
        if self._store.get(name) is None:
            self._catalog.manifest(name)
        return self._described(name)

    def set(
        self,
        name: str,
        changes: Settings,
        *,
        unset: Collection[str] = (),
        replace: bool = False,
    ) -> Described:
        """Change a function's settings; see :func:`cloud_fn.functions.settings.changed`.

        Raises:
            SettingsError: the settings may not be.
            UnknownModel: the model that it would run is not published.
            RegistryError: they cannot be kept.
        """

        def change(base: Settings | None) -> Settings:
            made = changed(base, changes, unset=unset, replace=replace)
            self._catalog.manifest(*split_model(made.model or name))
            return made

        if not is_name(name):
            raise SettingsError(
                f"a function cannot be named {name[:80]!r}: use at most 63 of a-z 0-9 _ . -, the "
                "first a letter or digit"
            )
        self._store.update(name, change, afresh=replace)
        return self._described(name)

    def _resolve(self, name: str, document: FunctionDocument | None) -> Resolved:
        if document is None:
            return self._nothing
        known = self._resolved.get(name)
        if known is None or known[0] is not document:
            known = document, resolve(document.settings, self._defaults)
            self._resolved[name] = known
        return known[1]

    def _described(self, name: str) -> Described:
        document = self._store.get(name)
        found = self.resolved(name)
        model, version = self.target(name)
        settings = {
            field: Setting(value=as_builtin(getattr(found, field)), source=source)
            for field, source in found.sources.items()
            if field != "model" or source == "function"
        }
        number = 0
        with contextlib.suppress(UnknownModel):
            manifest = self._catalog.manifest(model, version)
            number = manifest.version
            settings |= self._together(manifest, found)
        return Described(
            name=name,
            model=model,
            version=number,
            changed="" if document is None else document.changed,
            settings=settings,
        )

    def _together(self, manifest: Manifest, found: Resolved) -> dict[str, Setting]:
        """Whether requests run together, and what follows of it for the settings."""
        try:
            variants = self._catalog.variants(manifest)
        except RegistryError:  # the list is damaged, and the next push writes it anew
            variants = ()
        told = {"together": Setting(value=told_together(found, variants), source="measured")}
        places = found.places(batched=any(each.batched and each.batched.graph for each in variants))
        if places != found.concurrency:
            told["concurrency"] = Setting(value=places, source="batching")
        return told


def _target(name: str, version: str, document: FunctionDocument | None) -> tuple[str, str]:
    if document is None or document.settings.model is None:
        return name, version
    model, pinned = split_model(document.settings.model)
    return model, version or pinned
