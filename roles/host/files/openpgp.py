"""Fingerprints of OpenPGP keys, for the keys of apt repositories.

Stdlib only. The roles docker and rocm send this file to a node in front of their read.py.
"""

import base64
import hashlib


def fingerprints(data: bytes) -> list[str]:
    """Return fingerprints of all primary keys in a file, armoured or binary: apt trusts each. [] if any part is not a version 4 key.

    SHA-1 over 0x99, the packet's length and the packet (RFC 9580, 5.5.4.2).
    """
    blocks = [data]
    if b"-----BEGIN PGP" in data:
        text = data.decode("ascii", "replace").replace("\r", "")
        armoured = [block.partition("-----END PGP")[0] for block in text.split("-----BEGIN PGP")[1:]]
        bodies = [block.partition("\n\n")[2].splitlines() for block in armoured]
        blocks = [("".join(line for line in body if line[:1] != "=")).encode() for body in bodies]
    found = []
    try:
        for block in blocks:
            rest = base64.b64decode(block, validate=True) if block is not data else block
            while rest:
                tag, start, size = packet(rest)
                if tag == 6:
                    content = rest[start : start + size]
                    if len(content) < size or content[0] != 4:
                        return []
                    found.append(hashlib.sha1(b"\x99" + size.to_bytes(2, "big") + content).hexdigest().upper())
                rest = rest[start + size :]
    except (ValueError, IndexError, OverflowError):
        return []
    return found


def packet(data: bytes) -> tuple[int, int, int]:
    """Return tag, start and length of the first packet. Raises ValueError if there is none (RFC 9580, 4.2)."""
    head = data[0]
    if not head & 0x80:
        raise ValueError("no OpenPGP packet")
    if not head & 0x40:  # old format
        octets = 1 << (head & 3)
        if octets == 8:
            raise ValueError("a packet without a length")
        return head >> 2 & 15, 1 + octets, int.from_bytes(data[1 : 1 + octets], "big")
    one = data[1]
    if one < 192:
        return head & 63, 2, one
    if one < 224:
        return head & 63, 3, (one - 192 << 8) + data[2] + 192
    if one < 255:
        raise ValueError("a packet of partial length")
    return head & 63, 6, int.from_bytes(data[2:6], "big")
