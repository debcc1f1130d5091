"""The console's form of the parameters that a URL can have, made from their table.

Pure: the table and the settings in, HTML and JSON out. Must never know a request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from urllib.parse import parse_qsl

from echod.faults.bad import BAD, Bad
from echod.faults.heads import HEADS, Malformed
from echod.faults.table import PARAMETERS, Moment, Parameter
from echod.settings import Settings

_ORDER = (*(Moment.END, Moment.MESSAGES, Moment.OPENING, Moment.OWN), *(Moment.FRAMES, Moment.WIRE, Moment.REPLIES))
"""The groups, with those first that most people need."""

_OPEN = _ORDER[:2]
"""The groups whose fields a newcomer sees without a click. Of the others they see the names."""

_SAYS: Mapping[str, Mapping[str, Bad | Malformed]] = {"bad": BAD, "head": HEADS}
"""The parameters whose choices are names, and what says what each name means."""

_LISTS = {"close": "codes"}
"""Lists of values that the page itself has."""


def fill(page: bytes, settings: Settings) -> bytes:
    """Return the console page with the form in it."""
    groups = "".join(_group(moment, settings) for moment in _ORDER)
    # Within a script element only `<` could end it.
    data = json.dumps({name: _check(row, settings) for name, row in PARAMETERS.items()}).replace("<", "\\u003c")
    filled = page.replace(b"    <!-- the form of the parameters -->\n", groups.encode(), 1)
    return filled.replace(b'id="parameters">{}<', f'id="parameters">{data}<'.encode(), 1)


def _group(moment: Moment, settings: Settings) -> str:
    rows = [row for row in PARAMETERS.values() if row.moment is moment]
    fields = "".join(_field(row, settings) for row in rows)
    names = f'<span class="hint">{", ".join(row.name for row in rows)}</span>'
    state = " open" if moment in _OPEN else ""
    return f"    <details{state}>\n      <summary>{escape(moment)} {names}</summary>\n{fields}    </details>\n"


def _field(row: Parameter, settings: Settings) -> str:
    form = row.kind.form(settings)
    says = _SAYS.get(row.name, {})
    choices = "".join(
        f'<option value="{escape(choice)}">{escape(says[choice].does) if says else ""}</option>'
        for choice in form.get("choices", ())
    )
    place = _LISTS.get(row.name, f"choices-{row.name}" if choices and not form.get("flag") else "")
    example = escape(dict(parse_qsl(row.example)).get(row.name, ""))
    about = f'id="fault-{row.name}" aria-describedby="hint-{row.name}"'
    if form.get("flag"):
        field = f'<input {about} type="checkbox">'
    elif row.most:
        field = f'<textarea {about} rows="2" placeholder="e.g. {example}" spellcheck="false"></textarea>'
    else:
        listed = f' list="{place}"' if place else ""
        words = f'placeholder="e.g. {example}" spellcheck="false" autocapitalize="off"'
        field = f'<input {about} class="code" {words}{listed}>'
    only = f" Only over HTTP/{row.version}." if row.version else ""
    does = re.sub("`(.*?)`", r"<code>\1</code>", escape(row.does)) + only
    lines = [
        '<div class="fault">',
        f'  <label for="fault-{row.name}">{escape(row.label)} <code>{row.name}</code></label>',
        f"  {field}",
        f'  <p class="hint" id="hint-{row.name}">{does}</p>',
        *([f'  <datalist id="{place}">{choices}</datalist>'] if place and row.name not in _LISTS else []),
        "</div>",
    ]
    return "".join(f"      {line}\n" for line in lines)


def _check(row: Parameter, settings: Settings) -> dict[str, object]:
    """Return what the page has to know of a parameter."""
    told = {
        **row.kind.form(settings),
        "label": row.label,
        "needs": row.needs,
        "excludes": row.excludes,
        "plan": row.plan,
        "version": row.version,
        "isOpening": row.moment is Moment.OPENING,
        "times": getattr(settings, row.most) if row.most else 0,
    }
    return {name: value for name, value in told.items() if value or name in {"least", "most", "label"}}
