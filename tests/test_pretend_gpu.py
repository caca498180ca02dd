"""Right on a GPU, without one: every variant of the Gemma preset on a pretend CUDA device (tests/pretend_cuda)

The device changes torch for a whole process, so each test here starts one. With the tables of what a step costs:

    pytest -rP tests/test_pretend_gpu.py
"""

import json
import subprocess
import sys
from pathlib import Path

import pretend_cuda
import pytest
from pretend_cuda import guard

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(guard.compiler() is None, reason="needs a C++ compiler")


def test_every_variant_is_right_on_a_gpu() -> None:
    """All tests of pretend_cuda/rehearsal.py, in a process that believes in a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "tests/pretend_cuda/rehearsal.py"]
    environment = pretend_cuda.environment()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


SHORT = {
    "data.rows": 64, "data.evaluation_rows": 8, "data.row_length": 32, "activations.calibration_rows": 16,
    "sae.dictionary_size": 128, "training.steps": 6, "training.rows_per_batch": 8, "training.gradient_norms_every": 2,
    "training.checkpoint_every": 3, "language_model.device": "auto", "unlearning": "null",
}


def test_a_run_and_its_kernel_take_the_gpu(tmp_path: Path) -> None:
    """`tsae run` trains where there is a GPU on it, in the kernel of its notebook, and says what then varies."""
    settings = [f"--set={name}={value}" for name, value in SHORT.items()]
    places = [f"--set=activations.cache_folder={tmp_path / 'cache'}", "--root", str(tmp_path / "runs")]
    tsae = str(Path(sys.executable).with_name("tsae"))
    done = subprocess.run(
        [tsae, "run", "runs/tiny.yaml", "--variants", "temporal,topk", *settings, *places], cwd=ROOT,
        env=pretend_cuda.environment(tmp_path / "counts"), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "training on cuda:0 adds up index_add (sparse codes)" in done.stderr, done.stderr
    manifest = json.loads((tmp_path / "runs" / "tiny" / "temporal" / "manifest.json").read_text())
    assert manifest["machine"]["gpu"] == "pretend CUDA device"
    counted = [json.loads(path.read_text()) for path in (tmp_path / "counts").glob("*.json")]
    [kernel] = [one for one in counted if one["totals"]["kernels"]]
    assert "ipykernel" in kernel["command"][0] and any("_fused_adam_" in name for name in kernel["kernels"])
