import subprocess
import sys

import pytest

from metrics.base import Score


def test_a_missing_score_needs_a_reason():
    with pytest.raises(ValueError, match="needs a reason"):
        Score(None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_is_finite(value):
    with pytest.raises(ValueError, match="finite"):
        Score(value)


def test_metrics_load_no_torch_before_they_score():
    modules = (
        "condition perceptual_distance pocket_oracle preference sets stats styles text weights"
    )
    code = "import sys\n" + "".join(f"import metrics.{m}\n" for m in modules.split())
    code += "print({'torch', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
