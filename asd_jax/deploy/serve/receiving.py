"""Receives the body of a request into files, within the limits of size and time."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from asd_jax.deploy.serve.limits import Limits, Refused
from asd_jax.deploy.serve.service import Slot

_LONGEST_NAME = 255


class Received(NamedTuple):
    """A recording that was received.

    Attributes:
        slot: has its file.
        name: its own, without folders; "" where it has none.
    """

    slot: Slot
    name: str


async def receive(request: Request, admit: Callable[[], Slot], limits: Limits) -> list[Received]:
    """Receives the recordings of a request: its body, or the files of a form.

    Args:
        request: whose body has not been read.
        admit: a place for a recording, or Refused.
        limits: of size and time.

    Raises:
        Refused: the body is too large or too slow, is none that is known, or cannot be kept.
        ClientDisconnect: the client went away.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise Refused(
            415, f"Content-Encoding {encoding[:40]!r} is not taken; send the file as it is"
        )
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > limits.max_bytes:
        raise _too_large(limits)
    is_form = request.headers.get("content-type", "").startswith("multipart/form-data")
    received = [Received(admit(), "")]
    try:
        async with asyncio.timeout(limits.timeout_s):
            if not is_form:
                with open(received[0].slot.path, "xb") as file:
                    async for chunk in _bounded(request, limits):
                        file.write(chunk)
                return received
            parser = MultiPartParser(
                request.headers,
                _bounded(request, limits),
                max_files=limits.max_files,
                max_fields=0,
            )
            form = await parser.parse()
        uploads = [each for _, each in form.multi_items() if isinstance(each, UploadFile)]
        if not uploads:
            raise Refused(400, "a form without files; send them as in `curl -F file=@NEW.wav`")
        for _ in uploads[1:]:
            received.append(Received(admit(), ""))
        loop = asyncio.get_running_loop()
        for i, upload in enumerate(uploads):
            await loop.run_in_executor(None, _copy, upload, received[i].slot.path)
            name = (upload.filename or "").replace("\\", "/").rsplit("/", 1)[-1][-_LONGEST_NAME:]
            received[i] = Received(received[i].slot, name)
        return received
    except BaseException as error:
        for each in received:
            each.slot.release()
        if isinstance(error, TimeoutError):
            raise Refused(
                408,
                f"the recording did not arrive within {limits.timeout_s:g} s",
                Connection="close",
            ) from error
        if isinstance(error, MultiPartException):
            line = f"not a form of files: {error.message}"
            if "Too many fields" in error.message:
                line = "the form has a field that is no file; give parameters in the query"
            raise Refused(400, line) from error
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise Refused(
                503, f"the recording cannot be kept: {reason}; try again", Retry_After="5"
            ) from error
        raise


def _too_large(limits: Limits) -> Refused:
    size = f"{limits.max_bytes / 2**20:g} MiB"
    return Refused(413, f"the request has more than {size}; send fewer recordings, or shorter ones")


async def _bounded(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """The chunks of a body; Refused where they are too many."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limits.max_bytes:
            raise _too_large(limits)
        yield chunk


def _copy(upload: UploadFile, path: os.PathLike | str) -> None:
    with upload.file, open(path, "xb") as file:
        shutil.copyfileobj(upload.file, file)
