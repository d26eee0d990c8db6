from __future__ import annotations

from typing import Any

import pytest

from sharpreel.pipeline.options import UpscaleOptions


@pytest.mark.parametrize("wrong", [{"height": 720.5}, {"size": "320x200"}, {"scale": "2"}])
def test_an_option_of_the_wrong_type_is_a_value_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        UpscaleOptions(**wrong)
