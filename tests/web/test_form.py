"""The console's form has a field for each parameter, in groups, with the server's own limits."""

from __future__ import annotations

import json
import re

from echod.faults.table import PARAMETERS, Moment
from echod.settings import Settings
from echod.web.form import fill

PAGE = b'    <!-- the form of the parameters -->\n<script type="application/json" id="parameters">{}</script>'


def test_the_form() -> None:
    page = fill(PAGE, Settings(max_after=7)).decode()
    assert sorted(re.findall('<(?:input|textarea) id="fault-([a-z-]+)"', page)) == sorted(PARAMETERS)
    groups = dict(re.findall('<summary>(.*?) <span class="hint">(.*?)</span></summary>', page))
    assert sorted(groups) == sorted(Moment)
    assert groups["Frames that are wrong"] == "raw, bad, bomb"
    assert page.count("<details open>") == 2
    assert '<input id="fault-close" aria-describedby="hint-close" class="code"' in page
    assert 'list="codes"' in page
    assert '<input id="fault-abort" aria-describedby="hint-abort" type="checkbox">' in page
    assert '<textarea id="fault-header"' in page
    assert '<datalist id="choices-bad"><option value="masked">A text frame is masked.</option>' in page
    assert '<datalist id="choices-accept"><option value="wrong"></option>' in page
    assert "<code>Upgrade</code>" in page


def test_what_the_page_knows() -> None:
    page = fill(PAGE, Settings(max_after=7, max_fault_headers=3)).decode()
    found = re.search(r'id="parameters">(.*?)</script>', page)
    assert found is not None
    told = json.loads(found[1])
    assert list(told) == list(PARAMETERS)
    assert told["after"]["most"] == 7
    assert told["after"]["least"] == 0
    assert "close" in told["after"]["needs"]
    assert told["header"]["times"] == 3
    assert told["abort"]["excludes"] == ["stall"]
    assert told["abort"]["flag"]
    assert told["accept"]["isOpening"]
    assert "isOpening" not in told["drop"]
    assert "<" not in found[1]
