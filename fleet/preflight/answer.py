"""The form of each fact that the node's script prints, so that every check gets the type that it expects. Pure.

For a new fact of on_node_facts.py or on_node_driver.py add a row here (tests/unit/test_fuzz_node.py). Called by __init__.
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
PROCESS: Mapping[str, Form] = {"pid": Whole(), "command": Text(most=1 << 20, lines=True), "unit": SAID}
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
    "locks": Each(Record({"path": SAID, **PROCESS})),
    "reboot": Either((Each(SAID), Nothing()), "a list of texts, or nothing"),
    "headers": Table(SAID, SAID),
    "ports": Table(SAID, Record(PROCESS)),
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
    "boot": Record(
        {
            "armed": Flag(),
            "reverted": Either(
                (Record({"when": SAID, "words": Each(SAID), "timeout": Whole(), "failed": Each(SAID)}), Nothing()),
                "a record, or nothing",
            ),
        },
        open=True,
    ),
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


def facts(arguments: Mapping[str, Any]) -> Form:
    """Return the form of the script's answer for its arguments: it has the disk of each path."""
    return Record({**FACTS, "space": Record(dict.fromkeys(arguments["paths"], DISK))}, open=True)
