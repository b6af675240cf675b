"""What a recording's header may announce: rates of sound, and lengths that the file can hold.

Whatever a header says is worked with before its samples are read: one of 1 Hz makes a clip of
seconds into hours at a system's rate, and one of a million hours counts before it is decoded.
"""

from asd_jax.runtime.bounds import Between

# In Hz. Below, the sound of nothing that mains drive is left, as half of the rate is below 50 Hz;
# above, not even sensors of acoustic emission record. Both lie well beyond the logs of slow
# accelerometers (some hundred Hz) and ultrasound (up to 500 kHz), which are read.
RATES = Between(100, 10**7)
# Samples of a channel that a byte may stand for. The densest is silence in FLAC: frames of 65,535
# samples in no less than 10 bytes.
_DENSEST = 2**13
UNKNOWN = 2**63 - 1  # length that libsndfile gives where none is announced, as in a FLAC of a pipe


def impossible(sample_rate: int, n_samples: int, size: int) -> str | None:
    """Describes what no recording can have of what a header announces.

    Args:
        sample_rate: in Hz.
        n_samples: samples of each channel; `UNKNOWN` where it is not announced.
        size: of the file, in bytes.

    Returns:
        The problem, with its kind before a colon; None where there is none.

    Examples:
        >>> impossible(7, 32000, 64044)
        'impossible rate: 7 Hz, where sound has 100 to 10,000,000 Hz; write its header again'
        >>> impossible(16000, 2**36, 40000)
        'impossible length: 1,193 h are announced in 40,000 bytes'
    """
    if sample_rate not in RATES:
        return (
            f"impossible rate: {sample_rate} Hz, where sound has {RATES.low:,} to "
            f"{RATES.high:,} Hz; write its header again"
        )
    if n_samples != UNKNOWN and n_samples > _DENSEST * size:
        hours = n_samples / sample_rate / 3600
        return f"impossible length: {hours:,.0f} h are announced in {size:,} bytes"
    return None
