"""Makes text safe for a terminal: escapes control characters. Needs nothing.

Called by errors (each message), ansible.progress and provider.engine (each line of progress), ansible.supervisor (the log), ssh.reply (what a
node sends) and others that print a node's text.
"""

import unicodedata

# Control characters (C0, DEL, C1), format characters (bidirectional overrides, zero width, tags), surrogates, private and line separators.
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
KEPT = "\n\t"


def plain(text: str) -> str:
    """Return the text with an escape for each character that a terminal obeys or hides: ESC becomes \\x1b.

    Line feeds and tabs stay; a carriage return becomes a line feed.
    """
    if text.replace("\n", "").replace("\t", "").isprintable():  # nearly always, and a hundred times faster
        return text
    return "".join(_escape(char) for char in text.replace("\r\n", "\n").replace("\r", "\n"))


def short(text: str, length: int = 80) -> str:
    """Return the text on one line, of at most `length` characters, safe on a terminal."""
    line = plain(text[: 4 * length].replace("\n", "\\n").replace("\t", "\\t"))
    return line if len(line) <= length and len(text) <= 4 * length else f"{line[: length - 1]}…"


def _escape(char: str) -> str:
    if char in KEPT or unicodedata.category(char) not in HIDDEN:
        return char
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
