"""Published models: immutable numbered versions over content-addressed files."""

from cloud_fn.registry.catalog import Catalog
from cloud_fn.registry.manifest import Manifest

__all__ = ["Catalog", "Manifest"]
