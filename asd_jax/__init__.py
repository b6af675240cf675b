"""Anomalous sound detection in JAX: hear that a machine fails when only its healthy sound is known.

| name | what |
|---|---|
| `fit`, `load` | a detector fitted to features of one's own, or from a run directory |
| `load_config`, `run`, `ensemble` | a configuration; the main job; finished runs as one |
| `load_variants`, `sweep` | all combinations of several values, trained as one program |
| `select` | a choice among finished runs without labels |
| `Reporter` | shows progress, and hears of each epoch: the callback of `run` and `fit` |
| `audio` | log-mel front end on the device, views, augmentation |
| `models` | network architectures as linen modules |
| `losses` | losses by angles, for embeddings, as pure functions |
| `detectors` | the systems of the papers; `list_detectors()` names them |
| `register` | makes a system of another package known by its name |
| `embeddings` | pretrained networks: OpenL3, EdgeL3 |
| `scoring` | thresholds, distances, mixtures, neighbours, as pure functions |
| `metrics` | AUC, partial AUC, and the challenge's means |
| `training` | many models as one program |
| `config`, `data` | configurations; data sets, recordings, synthetic machines |

Names are loaded when first used, so that importing the package costs nothing; `__init__.pyi`
lists them for editors and type checkers, and for this file.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
