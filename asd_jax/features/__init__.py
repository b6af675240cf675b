"""Features of many clips: computed once on the device, kept on disk, read in even batches.

| module | content |
|---|---|
| `compute` | `compute_features`: from recordings to a `FeatureSet`, through the cache |
| `cache` | entries of the cache |
| `table` | tables of features, `ClipInput`, batches of clips, checks of a user's arrays |
| `embeddings` | embeddings of recordings by pretrained networks |
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, ["cache", "compute", "embeddings", "table"]
)
