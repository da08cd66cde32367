"""Keep backups in an object store that speaks S3: put a file, get it, list them. Needs obstore, for bootstrap/backup.sh and restore.sh.

Credentials, region and endpoint come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION,
AWS_ENDPOINT_URL, or from the cloud's machine. Usage: python -m fleet.cli.object_store put FILE s3://BUCKET/PREFIX | get s3://…/NAME FILE.
"""

import datetime
import hashlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet import errors, printable
from fleet.cli import common

if TYPE_CHECKING:
    from obstore.store import S3Store

PLACE = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_.=-]+)*/?")
NAME = re.compile(r"glm-fleet-[A-Za-z0-9._-]+\.tar\.gz")
MOST = 1 << 30  # bytes of a backup
SHOWN = 10  # names in a message
PATIENCE = datetime.timedelta(seconds=60)
CODE = re.compile(r"<Code>(\w{1,64})</Code>")


def put(file: Path, place: str) -> str:
    """Store a backup below s3://BUCKET/PREFIX, read it back, and return its URL. An object of that name is never replaced. Raises FleetError."""
    import obstore

    store, url = _store(place), f"{place.rstrip('/')}/{file.name}"
    doing, content = f"put {url}", file.read_bytes()
    _call(doing, lambda: obstore.put(store, file.name, content, mode="create", use_multipart=False))
    there = _call(doing, lambda: obstore.get(store, file.name).bytes())
    if hashlib.sha256(there).digest() != hashlib.sha256(content).digest():
        raise errors.FleetError(
            doing=doing, seen=f"{len(there)} other bytes than were sent", wanted="the backup", next="another bucket"
        )
    return url


def get(url: str, file: Path) -> None:
    """Write the backup of a URL into a file. Raises FleetError; without a backup's name it has the names there."""
    import obstore

    place, _, name = url.rpartition("/")
    doing = f"get {url}"
    if not NAME.fullmatch(name):
        names = newest(url)
        listed = "\n".join(f"{url.rstrip('/')}/{each}" for each in names) or "there is none"
        raise errors.FleetError(doing=doing, seen="the URL names no backup", wanted=listed)
    store = _store(place)
    size = _call(doing, lambda: obstore.head(store, name)["size"])
    if size > MOST:
        raise errors.FleetError(doing=doing, seen=f"{size} bytes", wanted=f"a backup of at most {MOST}")
    file.write_bytes(_call(doing, lambda: obstore.get(store, name).bytes()))


def newest(place: str) -> list[str]:
    """Return the names of the newest backups below s3://BUCKET/PREFIX, the newest first. Raises FleetError."""
    import obstore

    store = _store(place)
    paths = _call(f"list {place}", lambda: [each["path"] for batch in obstore.list(store) for each in batch])
    stamp = re.compile(r"-(\d{8}-\d{6})\.tar\.gz$")
    names = {name: match[1] for name in paths if NAME.fullmatch(name) and (match := stamp.search(name))}
    return sorted(names, key=lambda name: names[name], reverse=True)[:SHOWN]


def _store(place: str) -> "S3Store":
    from obstore.store import S3Store

    if not PLACE.fullmatch(place):
        raise errors.FleetError(
            doing=f"use {place}", seen="this is no place in an object store", wanted="s3://BUCKET/PREFIX"
        )
    without_tls = os.environ.get("AWS_ALLOW_HTTP") == "true"  # with options, obstore does not read it
    options: Any = {"timeout": PATIENCE, "connect_timeout": datetime.timedelta(seconds=10), "allow_http": without_tls}
    retries: Any = {"max_retries": 3, "retry_timeout": PATIENCE}
    url = place.rstrip("/")
    store: S3Store = _call(f"use {place}", lambda: S3Store.from_url(url, client_options=options, retry_config=retries))
    return store


def _call(doing: str, request: Callable[[], Any]) -> Any:
    """Return the answer of the store. Raises FleetError with the store's own code, or the first line of obstore's message."""
    from obstore.exceptions import BaseError

    try:
        return request()
    except (BaseError, OSError) as error:
        text = str(error)
        code = CODE.search(text)
        seen = f"the store answers {code[1]}" if code else printable.short(text.splitlines()[0], 300)
        raise errors.FleetError(
            doing=doing,
            seen=seen,
            wanted="a bucket that these credentials may read and write",
            next="AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY say where and who (docs/recovery.md)",
        ) from None


@common.exit_on_error()
def main(verb: str, first: str, second: str) -> None:
    """Run `put FILE PLACE`, which prints the URL, or `get URL FILE`."""
    if verb == "put":
        print(put(Path(first), second))
    else:
        get(first, Path(second))


if __name__ == "__main__":
    main(*sys.argv[1:])
