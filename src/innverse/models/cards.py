"""The card of a model: what people who get it must know, in Markdown as the hub shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import __version__

UNKNOWN = "not stated"
_PLACE = 'innverse.load("path/to/this/folder")'


@dataclass(frozen=True)
class Card:
    """
    Attributes:
        title: what the model is called. tags: on the hub. kind: one sentence on what it is.
        data: what it learned from, how much, what was held out. license: of the data.
        training: how long, on what, what went wrong.
        command: that repeats it. settings: that the command read, as tables of names and values.
        results: {measure: value}, on what was held out.
    """

    title: str
    tags: str
    kind: str
    data: str = UNKNOWN
    license: str = UNKNOWN
    training: str = ""
    command: str = UNKNOWN
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    results: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        numbers = "\n".join(f"| {what} | {value:.4f} |" for what, value in self.results.items())
        # JSON is TOML but for inf and nan, which no setting is
        toml = "\n\n".join(
            f"[{table}]\n"
            + "\n".join(f"{k} = {json.dumps(v)}" for k, v in entries.items() if v is not None)
            for table, entries in self.settings.items()
        )
        command = self.command if self.command == UNKNOWN else f"`{self.command}`"
        training = self.training + "\n" if self.training else ""
        return f"""---
library_name: innverse
tags: [{self.tags}]
---
# {self.title}

{self.kind}.

```python
import innverse

model = {_PLACE}
```

## Data
{self.data.rstrip(".")}.
License of the data: {self.license}.

## Training
{training}Command: {command} (innverse {__version__}). The settings:

```toml
{toml}
```

## Results
| measure | value |
|---|---|
{numbers or "| none (nothing held out) | |"}
"""


def lacks(card: str) -> list[str]:
    """What a card does not tell that it should: of "data", "license", "command", "settings", "metrics".

    Example:
        >>> lacks("# A model")
        ['data', 'license', 'command', 'settings', 'metrics']
        >>> lacks(innverse.zoo.card("digits"))
        []
    """
    body = dict(re.findall(r"^## (\w+)[^\n]*\n(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL))
    data, _, license = body.get("Data", "").partition("License of the data:")
    training = body.get("Training", "")
    told = {
        "data": data.strip().rstrip("."),
        "license": license.strip().rstrip("."),
        "command": "".join(re.findall(r"^Command: (`.+?`)", training, re.MULTILINE | re.DOTALL)),
        "settings": "".join(re.findall(r"^```toml\n(.*?)^```", training, re.MULTILINE | re.DOTALL)),
        "metrics": "".join(re.findall(r"^\|[^|]+\| *(-?\d[^|]*)\|", body.get("Results", ""), re.M)),
    }
    return [what for what, words in told.items() if words.strip() in ("", UNKNOWN)]


def at(card: str, place: str) -> str:
    """The card for people who load the model from another place."""
    return card.replace(_PLACE, f'innverse.load("{place}")')
