"""The form of what on_node_facts.py answers: each fact that a check reads, so that no check meets another type than it expects. Pure.

Add a fact: a row here, beside on_node_facts.py's own (tests/unit/test_fuzz_node.py). A fact without one passes as it is. Called by __init__.
"""

from collections.abc import Mapping
from typing import Any

from fleet.validators import Each, Either, Flag, Form, Nothing, Number, Record, Table, Text, Whole

SAID = Text(lines=True)
MAYBE = Either((Flag(), Nothing()), "true, false or nothing")
GPU = Record(
    {
        **dict.fromkeys(("address", "device", "driver", "speed", "width", "vbios", "compute", "memory"), SAID),
        "vram": Whole(),
    },
    open=True,
)
DRIVER = Record(
    {
        **dict.fromkeys(("loaded", "loaded_source", "built_source", "path", "signer", "signature"), SAID),
        "dkms": Each(SAID),
        "packages": Table(SAID, SAID),
    },
    open=True,
)
HELD: Mapping[str, Form] = {"pid": Whole(), "command": Text(most=1 << 20, lines=True), "unit": SAID}
PLACE = Record({"free": Whole(0, 1 << 62), "device": Whole(0, 1 << 62)}, open=True)
DISK = Record({**PLACE.parts, "filled": Flag()}, open=True)

FACTS: Mapping[str, Form] = {
    **dict.fromkeys(("system", "kernel", "arch", "python", "lockdown"), SAID),
    "time": Number(0.0, 1e11),
    "secure_boot": MAYBE,
    "cmdline": Each(SAID),
    "gpus": Each(GPU, most=256),
    "bundles": Each(SAID, most=256),
    "topology": Each(Whole(), most=256),
    "nodes": Each(SAID),
    "kfd": Flag(),
    "driver": DRIVER,
    **dict.fromkeys(("blacklists", "backups", "nvme", "half", "others", "notes"), Each(SAID)),
    "memory": Whole(),
    "reach": Table(SAID, SAID),
    "locks": Each(Record({"path": SAID, **HELD})),
    "reboot": Either((Each(SAID), Nothing()), "a list of texts, or nothing"),
    "headers": Table(SAID, SAID),
    "ports": Table(SAID, Record(HELD)),
    "docker": Record(
        {
            "there": Flag(),
            "ours": Flag(),
            **dict.fromkeys(("version", "root", "cgroup", "storage", "package"), SAID),
        },
        open=True,
    ),
    "images": Table(SAID, PLACE),
    "enrolled": Record({"serials": Each(SAID), "names": Each(SAID), "dkms": Flag()}, open=True),
    "loader": Record({}, optional={"unit": SAID, "at_work": Flag()}, open=True),
    "repositories": Each(Record({**dict.fromkeys(("file", "url", "key"), SAID), "same": Flag()}, open=True)),
    "first_boot": Flag(),
    "disks": Each(
        Record(
            {
                **dict.fromkeys(("serial", "path", "device", "state", "why"), SAID),
                "bytes": Whole(0, 1 << 62),
                "mounted": Flag(),
            },
            open=True,
        )
    ),
    "owner": Text(most=1 << 16, lines=True),
    "systemd": Flag(),
    "cgroup": Whole(),
}


def facts(asked: Mapping[str, Any]) -> Form:
    """Return the form of the answer to a question: the disk of each path that was asked for is in it."""
    return Record({**FACTS, "space": Record(dict.fromkeys(asked["paths"], DISK))}, open=True)
