"""An unexpected exception as an error for the user, with its traceback in the run's log. It is our bug.

Called by the servicer, which then saves the state. Needs the folder for logs.
"""

import os
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

from fleet import errors, printable
from fleet.provider import base
from fleet.provider.base import Request


def explain(error: Exception, request: Request, secrets: Iterable[str], log: str = "") -> errors.Unexpected:
    """Return the error with node and place; append the traceback to `log`, or to a new log. Neither has secret values."""
    path = Path(log) if log else _own_log(request)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(base.ROOT / "fleet")] or list(frames)
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}, in {own[-1].name}" if own else "nowhere"
    _append(path, without_secrets("".join(traceback.format_exception(error)), secrets))
    return errors.Unexpected(
        node=request.name,
        doing=request.kind,
        seen=f"a bug of glm-fleet: {type(error).__name__} at {place}: {printable.short(without_secrets(str(error), secrets), 200)}",
        wanted="an answer that our code can read, or an error in words",
        next=f"report it with the traceback in {path}; `pulumi up` goes on where this stopped",
    )


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return the text with `(secret)` for secret values of at least six characters."""
    for secret in secrets:
        if len(secret) >= 6:
            text = text.replace(secret, "(secret)")
    return text


def _own_log(request: Request) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{request.stack}-{request.kind.lower()}-{request.name}-{stamp}-bug.log"
    return base.state_dir() / "logs" / name


def _append(path: Path, text: str) -> None:
    """Append the text to a log that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "a") as log:
        log.write(printable.plain(f"\n{text}"))
