"""Audio in JAX: spectrograms, and views (windows of frames) of them."""

from asd_jax.audio.frontend import FrontEnd as FrontEnd
from asd_jax.audio.frontend import log_mel as log_mel
from asd_jax.audio.frontend import mel_spectrogram as mel_spectrogram
from asd_jax.audio.frontend import spectrogram as spectrogram
from asd_jax.audio.views import ViewSpec as ViewSpec
from asd_jax.audio.views import count_views as count_views
from asd_jax.audio.views import gather_views as gather_views
from asd_jax.audio.views import view_starts as view_starts
