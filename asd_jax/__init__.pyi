from . import audio as audio
from . import config as config
from . import data as data
from . import detectors as detectors
from . import losses as losses
from . import metrics as metrics
from . import models as models
from . import scoring as scoring
from . import training as training
from .config import Config as Config
from .config import load_config as load_config
from .config.variants import load_variants as load_variants
from .detectors import list_detectors as list_detectors
from .detectors import register as register
from .errors import UserError as UserError
from .features import embeddings as embeddings
from .fitting.arrays import fit as fit
from .pipeline import load as load
from .pipeline import run as run
from .pipeline import sweep as sweep
from .runs.ensemble import ensemble as ensemble
from .runs.select import select as select
from .runtime.progress import Reporter as Reporter

__version__: str
