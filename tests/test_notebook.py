"""A notebook runs from top to bottom: values show themselves as tables, and progress leaves one line, not a flood."""

import json
import os
import sys
import textwrap
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import refvlm

CELLS = {
    "model": """
        import numpy as np
        import refvlm, refvlm.progress

        rng = np.random.default_rng(0)
        model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(3)), refvlm.MLP.random([3, 5, 64], rng))
        q = refvlm.AmortisedPosterior(refvlm.MLP.random([64, 3], rng))
        x = refvlm.digits()[:70]
        model
        """,
    "decomposition": "refvlm.decompose(model, q, x)",
    "short": """
        with refvlm.ProgressBar("short") as bar:
            for done in range(1, 8):
                bar(done, 7)
        """,
    "fit": """
        refvlm.progress.PATIENCE = 0.0  # as if it took long
        with refvlm.ProgressBar("fit") as bar:
            fitted = refvlm.fit(x, latents=3, hidden=(5,), epochs=41, progress=bar)
        """,
    "fitted": "fitted",
    "failure": """
        try:
            with refvlm.ProgressBar("broken") as bar:
                bar(1, 7)
                raise RuntimeError
        except RuntimeError:
            pass
        """,
    "columns": """
        columns = fitted.history.columns()
        print(len(fitted.history), {len(column) for column in columns.values()}, columns["epoch"].dtype.kind)
        """,
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """What each cell has left, by its name, with this interpreter as the kernel and nobody's configuration."""
    folder = tmp_path_factory.mktemp("jupyter")
    kernel = folder / "kernels" / "here"
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "here", "language": "python"}))
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(textwrap.dedent(source).strip()) for source in CELLS.values()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH", os.pathsep.join([str(Path(refvlm.__file__).parents[1]), os.getenv("PYTHONPATH", "")])
        )
        for name in ("JUPYTER_PATH", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            patch.setenv(name, str(folder))
        NotebookClient(notebook, kernel_name="here", timeout=120).execute(cwd=str(folder))
    nbformat.validate(notebook)
    return {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}


def test_no_cell_fails_or_warns(outputs):
    for name, left in outputs.items():
        for output in left:
            assert output.output_type != "error", name
            assert output.get("name") != "stderr", (name, output.text)


@pytest.mark.parametrize(("cell", "caption"), [("model", "BernoulliLVM(K=3"), ("decomposition", "Decomposition")])
def test_a_value_is_a_table_and_as_text_a_few_lines(outputs, cell, caption):
    (output,) = outputs[cell]
    assert f"<caption>{caption}" in output.data["text/html"]
    assert output.data["text/plain"].startswith(caption)
    assert len(output.data["text/plain"].splitlines()) < 10


def test_a_fit_is_two_tables(outputs):
    (output,) = outputs["fitted"]
    assert output.data["text/html"].count("<table") == 2
    assert len(output.data["text/plain"]) < 2000


def test_what_is_short_shows_no_progress(outputs):
    assert outputs["short"] == []


def test_progress_is_one_line_that_ends_with_the_time(outputs):
    (output,) = outputs["fit"]
    assert output.data["text/plain"].startswith("fit done, ")
    assert output.data["text/plain"] in output.data["text/html"]
    assert len(json.dumps(output.data)) < 200


def test_progress_of_what_fails_says_so(outputs):
    (output,) = outputs["failure"]
    assert output.data["text/plain"].startswith("broken stopped, ")


def test_columns_are_as_long_as_the_history(outputs):
    (output,) = outputs["columns"]
    assert output.text == "42 {42} i\n"
