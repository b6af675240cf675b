"""Files of pretrained weights: from a path, or fetched from a URL and checked."""

import hashlib
import os
from pathlib import Path

from asd_jax.errors import UserError
from asd_jax.runtime.extras import needed


def weights_file(place: str, sha256: str = "", *, cache_dir: os.PathLike | str) -> Path:
    """Finds the file of weights that a setting names; fetches it from a URL.

    Args:
        place: a path, or a URL (https://...) that is fetched once into `cache_dir`.
        sha256: checksum of the file in hexadecimal; required for a URL, optional for a path.
        cache_dir: folder of fetched files.

    Raises:
        UserError: the file does not exist, cannot be fetched, or has another checksum.
    """
    is_url = "://" in place
    if is_url and not sha256:
        raise UserError(f"{place}: give the file's SHA-256 too, so that it can be checked")
    if is_url:
        pooch = needed("pooch", f"fetching {place}")
        try:
            return Path(pooch.retrieve(place, f"sha256:{sha256}", path=Path(cache_dir) / "weights"))
        except ValueError as error:  # pooch's for another checksum; it removes the file
            raise UserError(
                f"{place}: it is not the file with SHA-256 {sha256} ({error}); correct one of them"
            ) from error
        except OSError as error:  # of the network or the disk
            raise UserError(f"{place} cannot be fetched: {error}", exit_status=1) from error
    path = Path(place).expanduser()
    if not path.is_file():
        raise UserError(f"{place}: there is no such file of weights")
    if sha256 and _sha256(path) != sha256.lower():
        raise UserError(f"{place}: its SHA-256 is not {sha256}; get the right file")
    return path


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
