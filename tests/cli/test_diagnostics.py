from __future__ import annotations

import sys

from sharpreel import __version__
from tests.support.commands import run
from tests.support.terminal import events


def test_doctor_names_versions_devices_and_encoders() -> None:
    (facts,) = events(run("doctor", "--json").stdout)
    assert facts["sharpreel"] == __version__
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "h264" in facts["encoders"]
    assert facts["processors"] >= 1
    assert facts["cuda"] in ("yes", "no")
    text = run("doctor").stdout
    assert all(name in text for name in facts if name != "event")
