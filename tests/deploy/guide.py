"""The commands and queries that the pages of deploy/ show."""

import dataclasses
import re

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks(deploy, language):
    """The blocks in a language of every page of deploy/."""
    for page in sorted(deploy.root.rglob("*.md")):
        text = page.read_text()
        for match in FENCE.finditer(text):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 2
                yield Block(str(page.relative_to(deploy.root)), line, language, match[2])


def commands(block):
    """The commands of a block of shell, each with its continuation lines, without comments."""
    command = ""
    for line in block.text.splitlines():
        if not command and (not line.strip() or line.startswith("#")):
            continue
        command += line.removesuffix("\\")
        if not line.endswith("\\"):
            yield re.sub(r"\s+", " ", command.strip())
            command = ""
    assert not command, f"{block}: the last line goes on"
