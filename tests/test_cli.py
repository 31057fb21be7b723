"""The command line: what it prints, how it ends, and what it leaves behind."""

import gzip
import io
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from pages import Page, number

import refvlm
from refvlm.cli import demo, main
from refvlm.cli.report import Row, Summary
from refvlm.enumeration import kernels
from refvlm.enumeration.blocks import MANY_ROWS

K, H, L, N = 3, 4, 6, 11
KEYS = ["row", "log_px", "log_px_error", "vlb", "kl", "residual", "vlb_error", "kl_error"]
SUMMARY_KEYS = [
    "rows", "mean_log_px", "mean_vlb", "mean_kl", "largest_log_px_error", "largest_residual", "identity_holds"
]  # fmt: skip


def make(kind):
    """A model and a posterior of some kind."""
    rng = np.random.default_rng(7)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=K)), refvlm.MLP.random([K, H, L], rng))
    encoder = refvlm.AmortisedPosterior(refvlm.MLP.random([L, K], rng))
    if kind == "none":
        return model, None
    if kind == "amortised":
        return model, encoder
    if kind == "per-datum":
        return model, refvlm.PerDatumPosterior(rng.normal(size=(N, K)))
    deep = refvlm.BernoulliLVM(
        refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=2)), refvlm.MLP.random([2, K], rng)), model.decoder
    )
    above = refvlm.AmortisedPosterior(refvlm.MLP.random([K, 2], rng))
    first = refvlm.PerDatumPosterior(rng.normal(size=(N, K)))
    return deep, refvlm.ChainPosterior([first, above])


KINDS = ["none", "amortised", "per-datum", "chain"]


@pytest.fixture
def x():
    return np.random.default_rng(8).integers(0, 2, size=(N, L)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch, x):
    """The current directory, with data and a model of every kind."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", x)
    np.savetxt("x.csv", x, fmt="%d", delimiter=",")
    for kind in KINDS:
        refvlm.save(f"{kind}.npz", *make(kind))
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run a command in this process: exit code, stdout, stderr."""

    def command(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        out, err = capsys.readouterr()
        return code, out, err

    return command


def process(*arguments, **options):
    options = {"capture_output": True, "text": True, "check": False, "timeout": 300} | options
    return subprocess.run([sys.executable, "-m", "refvlm", *map(str, arguments)], **options)


def process_without(descriptor, *arguments):
    """The same with one of the standard descriptors closed."""
    script = f'exec "$@" {descriptor}<&-'
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "refvlm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(autouse=True)
def children_find_the_package(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(os.path.dirname(refvlm.__file__)))
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def objects(out):
    """JSON lines; the constants that JSON does not have are refused."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in out.splitlines()]


def assert_fails(result, code, message):
    """This exit code, and one line on stderr that says so."""
    got, _, err = result
    assert got == code, err
    assert err.startswith("refvlm: error: ")
    assert err.count("\n") == 1
    assert message in err


# evaluate


@pytest.mark.parametrize("kind", KINDS)
def test_json_holds_what_the_library_returns_bit_by_bit(folder, run, x, kind):
    code, out, err = run("evaluate", f"{kind}.npz", "x.npy", "--json")
    assert (code, err) == (0, "")
    *rows, last = objects(out)
    model, q = make(kind)
    assert [row["row"] for row in rows] == list(range(N))
    assert all(list(row) == KEYS for row in rows)
    summary = last["summary"]
    assert list(summary) == SUMMARY_KEYS
    assert summary["rows"] == N
    if q is None:
        values, errors = refvlm.log_marginal(model, x, with_error=True)
        expected = {"log_px": values.tolist(), "log_px_error": errors.tolist()}
        assert all(row["vlb"] is row["kl"] is row["residual"] is None for row in rows)
        nulls = ("mean_vlb", "mean_kl", "largest_residual", "identity_holds")
        assert all(summary[key] is None for key in nulls)
    else:
        expected = {name: values.tolist() for name, values in refvlm.decompose(model, q, x)._asdict().items()}
        assert summary["identity_holds"] is True
        assert summary["mean_kl"] == math.fsum(expected["kl"]) / N
        assert summary["largest_residual"] == max(map(abs, expected["residual"]))
    for name, values in expected.items():
        assert [row[name] for row in rows] == values
    assert summary["mean_log_px"] == math.fsum(expected["log_px"]) / N
    assert summary["largest_log_px_error"] == max(expected["log_px_error"])


@pytest.mark.parametrize("form", [[], ["--json"], ["--rows", "all"], ["--table", "--rows", "2:9"]])
@pytest.mark.parametrize("kind", KINDS)
def test_neither_chunks_nor_workers_nor_the_format_change_a_byte(folder, run, kind, form):
    whole = run("evaluate", f"{kind}.npz", "x.npy", *form)
    assert whole[0] == 0
    for chunk in (1, 4, N):
        assert run("evaluate", f"{kind}.npz", "x.npy", *form, "--chunk", chunk) == whole
    assert run("evaluate", f"{kind}.npz", "x.csv", *form, "--chunk", 3, "--workers", 2) == whole


def test_people_see_the_first_rows_the_means_and_the_verdict(folder, run):
    code, out, _ = run("evaluate", "amortised.npz", "x.npy")
    assert code == 0
    assert out.startswith(f"model amortised.npz: K = {K} latent bits, L = {L} observed bits; all numbers in nats\n")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[3:13]] == list("0123456789")
    assert "...  1 more rows (--rows all shows them)" in out
    assert f"means over {N} rows" in out
    assert lines[-1].startswith("log p(x) = VLB + KL holds for every row, within 1e-12")
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [("all", range(N)), ("2", range(2)), ("0", range(0)), ("4:7", range(4, 7)), ("9:99", range(9, N))],
)
def test_rows_choose_what_is_shown_and_the_summary_is_of_all(folder, run, rows, wanted):
    *shown, last = objects(run("evaluate", "amortised.npz", "x.npy", "--json", "--rows", rows)[1])
    assert [row["row"] for row in shown] == list(wanted)
    assert last["summary"]["rows"] == N


def test_without_a_posterior_people_are_told_so(folder, run):
    _, out, _ = run("evaluate", "none.npz", "x.npy")
    assert "no posterior in this file, so no VLB and no KL" in out
    assert "residual " not in out
    assert "holds" not in out


@pytest.mark.parametrize("kind", ["none", "amortised"])
def test_no_rows_give_an_empty_answer(folder, run, kind):
    np.save("empty.npy", np.zeros((0, L)))
    code, out, _ = run("evaluate", f"{kind}.npz", "empty.npy", "--json")
    (last,) = objects(out)
    assert code == 0
    assert last["summary"]["rows"] == 0
    assert last["summary"]["mean_log_px"] is None
    assert "no rows" in run("evaluate", f"{kind}.npz", "empty.npy")[1]


def test_infinite_vlb_and_kl_are_valid_json_and_hold(folder, run, x):
    rng = np.random.default_rng(9)
    prior = refvlm.Bernoulli([0.5, -np.inf, np.inf])
    model = refvlm.BernoulliLVM(prior, refvlm.MLP.random([K, L], rng))
    refvlm.save("m.npz", model, refvlm.PerDatumPosterior(rng.normal(size=(N, K))))
    code, out, _ = run("evaluate", "m.npz", "x.npy", "--json")
    *rows, last = objects(out)
    assert code == 0
    assert all((row["vlb"], row["kl"], row["residual"]) == ("-Infinity", "Infinity", 0.0) for row in rows)
    assert last["summary"]["mean_vlb"] == "-Infinity"
    assert last["summary"]["identity_holds"] is True
    code, out, _ = run("evaluate", "m.npz", "x.npy")
    assert code == 0
    assert "-inf" in out


@pytest.mark.parametrize("residual", [1e-9, -1e-9, math.nan, math.inf])
def test_an_identity_that_does_not_hold_ends_in_1(folder, run, monkeypatch, residual):
    def broken(*arguments, **options):
        found = refvlm.decompose(*arguments, **options)
        found.residual[2] = residual
        return found

    monkeypatch.setattr("refvlm.cli.evaluate.decompose", broken)
    code, out, _ = run("evaluate", "amortised.npz", "x.npy")
    assert code == 1
    assert f"DOES NOT HOLD for 1 of {N} rows, first for row 2" in out
    code, out, _ = run("evaluate", "amortised.npz", "x.npy", "--json")
    assert code == 1
    summary = objects(out)[-1]["summary"]
    assert summary["identity_holds"] is False
    strings = {"inf": "Infinity", "nan": "NaN"}
    assert summary["largest_residual"] == strings.get(str(abs(residual)), abs(residual))


@pytest.mark.parametrize(
    ("vlb", "kl", "residual", "holds"),
    [
        (-3.0, 1.0, 5.9e-12, True),
        (-3.0, 1.0, 6.1e-12, False),
        (-3.0, 1.0, math.nan, False),
        (-math.inf, math.inf, 0.0, True),
        (-math.inf, math.inf, math.nan, False),
        (-math.inf, 1.0, 0.0, False),
        (-3.0, math.inf, 0.0, False),
        (math.inf, -math.inf, 0.0, False),
        (math.nan, math.nan, 0.0, False),
        (None, None, None, True),
    ],
)
def test_the_verdict_is_safe_against_nan_and_infinities(vlb, kl, residual, holds):
    row = Row(0, -2.0, 0.0, vlb, kl, residual)
    assert row.holds is holds
    summary = Summary()
    summary.add(row)
    assert summary.broken == ([] if holds else [0])


def test_a_nan_among_the_residuals_stays_the_largest():
    summary = Summary()
    for n, residual in enumerate([1.0, math.nan, 2.0]):
        summary.add(Row(n, -2.0, 0.0, -3.0, 1.0, residual))
    assert math.isnan(summary.largest_residual)


def test_packaged_data_have_names_and_files_win(folder, run):
    rng = np.random.default_rng(5)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.0, 1.0]), refvlm.MLP.random([2, 16], rng))
    refvlm.save("bars.npz", model)
    rows = objects(run("evaluate", "bars.npz", "bars", "--json", "--chunk", 7)[1])
    assert [row["log_px"] for row in rows[:-1]] == refvlm.log_marginal(model, refvlm.bars().images).tolist()
    assert_fails(run("evaluate", "bars.npz", "shifter"), 65, "shifter: has 32 columns, wanted 16")
    (folder / "bars").write_text(",".join("01" * 8))
    assert objects(run("evaluate", "bars.npz", "bars", "--json")[1])[-1]["summary"]["rows"] == 1


# --table


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_is_the_sum_written_out(folder, run, x, kind):
    model, q = make(kind)
    code, out, _ = run("evaluate", f"{kind}.npz", "x.npy", "--json", "--table", "--rows", "4:5")
    *lines, sums, row, last = objects(out)
    assert code == 0
    z = refvlm.bits.table(K)
    repeated = np.repeat(x[4:5], 2**K, axis=0)
    assert [line["code"] for line in lines] == list(range(2**K))
    assert [line["z"] for line in lines] == z.tolist()
    assert all(sum(bit << k for k, bit in enumerate(line["z"])) == line["code"] for line in lines)
    assert [line["log_prior"] for line in lines] == refvlm.log_prior(model, z).tolist()
    assert [line["log_likelihood"] for line in lines] == refvlm.log_likelihood(model, repeated, z).tolist()
    assert [line["log_joint"] for line in lines] == refvlm.log_joint(model, repeated, z).tolist()
    assert [line["posterior"] for line in lines] == refvlm.posterior(model, x[4:5])[0].tolist()
    total = sums["sums"]
    assert total["prior"] == pytest.approx(1, abs=1e-14)
    assert total["posterior"] == pytest.approx(1, abs=1e-14)
    assert total["log_joint"] == pytest.approx(row["log_px"], abs=1e-13)
    assert row["row"] == 4
    assert last["summary"]["rows"] == 1
    if q is None:
        assert total["q"] is None
        assert all(line["q"] is None for line in lines)
    else:
        assert total["q"] == pytest.approx(1, abs=1e-14)
        # E_q[log p(x, z) - log q] by hand is the VLB; of a chain q is but the first stage
        by_hand = math.fsum(line["q"] * (line["log_joint"] - math.log(line["q"])) for line in lines)
        if kind != "chain":
            assert row["vlb"] == pytest.approx(by_hand, abs=1e-13)


def test_the_table_for_people_lines_up_and_says_which_row_it_is(folder, run, x):
    code, out, err = run("evaluate", "amortised.npz", "x.npy", "--table")
    assert code == 0
    assert err == "refvlm: note: the table of the first row alone; --rows chooses others\n"
    lines = out.splitlines()
    start = lines.index(f"row 0: x = {''.join(map(str, x[0]))}")
    head, *table, total = lines[start + 1 : start + 3 + 2**K]
    assert head.split("  ")[1:3] == ["code", "z (z_0 first)"]
    assert {len(line) for line in [head, *table, total]} == {len(head)}
    assert table[1].split()[:2] == ["1", "100"]
    assert table[6].split()[:2] == ["6", "011"]
    assert total.split()[0] == "sum"
    assert f"{refvlm.log_marginal(make('amortised')[0], x[:1])[0]:.10f}" in total
    several = run("evaluate", "amortised.npz", "x.npy", "--table", "--rows", "3:6")
    assert [f"row {n}: x" in several[1] for n in range(2, 7)] == [False, True, True, True, False]
    assert several[2] == ""


def test_a_table_of_too_many_lines_is_refused(folder, run, x):
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(13)), refvlm.MLP([np.zeros((13, L))], [np.zeros(L)]))
    refvlm.save("big.npz", model)
    assert_fails(run("evaluate", "big.npz", "x.npy", "--table"), 65, "2**13 lines; wanted at most 12 bits")
    assert run("evaluate", "big.npz", "x.npy")[0] == 0


def evaluated(run, kind, form, *options):
    """The output of --table in a format."""
    code, out, _ = run("evaluate", f"{kind}.npz", "x.npy", "--table-format", form, *options)
    assert code == 0
    return out


def text_tables(out):
    """The numbers of --table as text: of each row's table the lines and the sums, then of the rows."""
    cells = [line.split() for line in out.splitlines()]
    numbers = [
        [float(cell) for cell in line[2:]] for line in cells if len(line) in (6, 7) and set(line[1]) <= set("01")
    ]
    sums = [[float(cell) for cell in line[1:]] for line in cells if line[:1] == ["sum"]]
    rows = [[float(cell) for cell in line[1:]] for line in cells if line and line[0].isdigit() and "e-" in line[2]]
    means = [[float(cell) for cell in line[1:]] for line in cells if line[:1] == ["mean"]]
    expectations = [float(line[-1]) for line in cells if line[:1] in (["VLB"], ["KL"])]
    return numbers, sums, rows, means, expectations


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_has_the_numbers_of_the_text(folder, run, x, kind):
    numbers, sums, rows, means, expectations = text_tables(evaluated(run, kind, "text", "--rows", "3:5"))
    assert (len(numbers), len(sums), len(rows), len(means)) == (2 * 2**K, 2, 2, 1)
    source = evaluated(run, kind, "html", "--rows", "3:5")
    page = Page(source)
    *worked, last = page.tables
    cells = [row for table in worked for row in table.rows]
    assert [[number(cell) for cell in row[2:]] for row in cells] == numbers
    assert [row[:2] for row in worked[0].rows] == [[str(c), f"{c:03b}"[::-1]] for c in range(2**K)]
    assert [[number(cell) for cell in table.foot[0] if cell and cell != "sum"] for table in worked] == sums
    assert [[number(cell) for cell in row[1:]] for row in last.rows] == rows
    assert [number(cell) for cell in last.foot[0][1:]] == means[0]
    read = [float(value.replace("−", "-")) for value in re.findall(r"= (−?\d+\.\d+)$", page.text, re.MULTILINE)]
    assert read == expectations
    assert [table.caption for table in worked] == [f"every z beside x = {''.join(map(str, x[n]))}" for n in (3, 4)]
    bounded = kind != "none"
    heads = ["code", "z (z0 first)", "log\u2061p(z)", "log\u2061p(x|z)", "log\u2061p(x,z)", "p(z|x)", "q(z|x)"]
    assert worked[0].heads == heads[: 7 if bounded else 6]
    assert last.heads == ["row", "log\u2061p(x)", "error bound", "VLB", "KL", "residual"][: 6 if bounded else 3]
    assert ("holds for every row" in page.text) == bounded


def test_the_page_is_whole_and_asks_for_nothing(folder, run):
    os.rename("amortised.npz", "<b>&amp;\n{0}.npz")
    source = evaluated(run, "<b>&amp;\n{0}", "html")
    page = Page(source)
    assert source.startswith("<!doctype html>\n")
    assert source.endswith("</html>\n")
    assert source.isascii()
    assert page.attributes["html"] == {"lang": "en"}
    assert page.asks == ["data:,"]
    assert "script" not in page.attributes
    assert "prefers-color-scheme: dark" in source
    assert page.text.count("<b>&amp;\n{0}.npz") == 2  # the title and the text


def test_infinities_are_on_the_page_and_in_latex(folder, run):
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([np.inf, 0.0, 1.0]), make("none")[0].decoder)
    refvlm.save("infinite.npz", model, make("amortised")[1])
    *_, last = Page(evaluated(run, "infinite", "html")).tables
    assert last.rows[0][3:] == ["−∞", "∞", "0"]
    assert r"& $-\infty$ & $\infty$ & $0$ \\" in evaluated(run, "infinite", "latex")


def test_no_rows_make_a_whole_page_and_latex(folder, run):
    for rows in ("0", "40:50"):
        page = Page(evaluated(run, "none", "html", "--rows", rows))
        assert page.tables == []
        assert "No rows." in page.text
        assert "No rows." in evaluated(run, "none", "latex", "--rows", rows)


def latex_number(cell):
    """The number in a cell, which is in math mode."""
    inside = re.fullmatch(r"\$(.*)\$", cell)[1]
    return float(re.sub(r" \\cdot 10\^{(-?\d+)}", r"e\1", inside))


@pytest.mark.parametrize("kind", KINDS)
def test_the_latex_has_the_numbers_of_the_text(folder, run, x, kind):
    numbers, sums, rows, means, expectations = text_tables(evaluated(run, kind, "text", "--rows", "3:5"))
    source = evaluated(run, kind, "latex", "--rows", "3:5")
    tables = re.findall(r"\\begin{tabular}{([rl]+)}\n\\hline\n(.*?)\\hline\n\\end{tabular}", source, re.DOTALL)
    assert len(tables) == 3
    read = []
    for columns, body in tables:
        head, lines, foot = body.split("\\hline\n")
        cells = [line.removesuffix(r" \\").split(" & ") for line in (head + lines + foot).splitlines()]
        assert all(line.endswith(r" \\") for line in body.splitlines() if line != r"\hline")
        assert {len(line) for line in cells} == {len(columns)}
        read.append(cells[1:])
    assert [columns.strip("r") for columns, _ in tables] == ["l", "l", ""]  # bits to the left, numbers to the right
    worked, last = read[:2], read[2]
    assert [[latex_number(c) for c in row[2:]] for table in worked for row in table[:-1]] == numbers
    assert [[latex_number(c) for c in table[-1][1:] if c] for table in worked] == sums
    assert [[latex_number(c) for c in row[1:]] for row in last] == rows + means
    assert [float(v) for v in re.findall(r"= (-?[\d.]+) \\\]$", source, re.MULTILINE)] == expectations
    bits = re.findall(r"\$x =\$ \\texttt{(.*)}", source)
    assert [b.replace(r"\allowbreak ", "") for b in bits] == ["".join(map(str, x[n])) for n in (3, 4)]


@pytest.mark.parametrize("kind", ["none", "amortised"])
def test_the_latex_compiles_in_the_body_of_a_document(folder, run, kind):
    name = "a_$%&#{}~^\\b"
    os.rename(f"{kind}.npz", f"{name}.npz")
    source = evaluated(run, name, "latex", "--rows", "2")
    visible = "\n".join(line for line in source.splitlines() if not line.startswith("%"))
    plain = re.sub(r"\\[\\{}$&#_%]", "", visible)
    assert plain.count("{") == plain.count("}")
    assert plain.count("$") % 2 == 0
    assert "%" not in plain
    assert sorted(re.findall(r"\\begin{(\w+)}", plain)) == sorted(re.findall(r"\\end{(\w+)}", plain))
    if shutil.which("pdflatex") is not None:
        (folder / "document.tex").write_text(
            f"\\documentclass{{article}}\\begin{{document}}\n{source}\\end{{document}}"
        )
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, errors="replace")
        assert done.returncode == 0, done.stdout


def test_a_table_format_is_of_tables_alone(folder, run):
    assert_fails(run("evaluate", "none.npz", "x.npy", "--table-format", "html", "--json"), 2, "with --json")
    assert_fails(run("evaluate", "none.npz", "x.npy", "--table-format", "latex", "--width", "1"), 2, "for brackets")
    assert run("evaluate", "none.npz", "x.npy", "--table-format", "word")[0] == 2
    as_table = run("evaluate", "none.npz", "x.npy", "--table")
    assert run("evaluate", "none.npz", "x.npy", "--table-format", "text") == as_table
    assert run("evaluate", "none.npz", "x.npy", "--table", "--table-format", "text") == as_table


# standard input, pipes, terminals, signals


def test_standard_input_and_a_file_give_the_same_bytes(folder):
    whole = process("evaluate", "amortised.npz", "x.npy", "--json")
    assert (whole.returncode, whole.stderr) == (0, "")
    for name in ("x.npy", "x.csv"):
        with open(name, "rb") as file:
            piped = process("evaluate", "amortised.npz", "-", "--json", "--chunk", 4, stdin=file)
        assert (piped.returncode, piped.stdout, piped.stderr) == (0, whole.stdout, "")


def test_samples_can_be_piped_into_evaluate(folder):
    drawn = process("sample", "amortised.npz", "-n", 17, "--seed", 3)
    scored = process("evaluate", "amortised.npz", "-", "--json", input=drawn.stdout)
    model, q = make("amortised")
    x, _ = model.sample(17, np.random.default_rng(3))
    assert [row["vlb"] for row in objects(scored.stdout)[:-1]] == refvlm.vlb(model, q, x).tolist()


def test_a_reader_that_stops_early_is_no_error(folder):
    with subprocess.Popen(
        [sys.executable, "-m", "refvlm", "sample", "none.npz", "-n", "200000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == ""
        assert child.wait(timeout=60) == 0


@pytest.mark.parametrize("command", [["evaluate", "none.npz", "x.npy"], ["sample", "none.npz", "-n", "50000"]])
def test_a_reader_that_never_reads_is_no_error(folder, command):
    end, start = os.pipe()
    os.close(end)
    with open(start, "w") as nobody:
        ended = process(*command, stdout=nobody, stderr=subprocess.PIPE, capture_output=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device here")
@pytest.mark.parametrize("command", [["evaluate", "none.npz", "x.npy"], ["sample", "none.npz", "-n", "50000"]])
def test_a_full_disk_under_stdout_is_one_line(folder, command):
    with open("/dev/full", "w") as full:
        ended = process(*command, stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert_fails((ended.returncode, "", ended.stderr), 73, "standard output cannot be written: No space left on device")


@pytest.mark.skipif(os.name != "posix", reason="descriptors are closed the POSIX way")
def test_closed_standard_streams_are_survived(folder):
    ended = process_without(0, "evaluate", "none.npz", "-")
    assert_fails((ended.returncode, "", ended.stderr), 66, "standard input is closed")
    ended = process_without(1, "evaluate", "none.npz", "x.npy")
    assert_fails((ended.returncode, "", ended.stderr), 73, "standard output is closed")
    ended = process_without(2, "evaluate", "none.npz", "missing.npy")
    assert (ended.returncode, ended.stdout) == (66, "")


@pytest.mark.skipif(os.name != "posix", reason="a signal that interrupts is POSIX")
def test_an_interrupt_is_one_line_and_130(folder, x):
    script = (
        "import signal, sys\nfrom refvlm.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job starts with it ignored
        "sys.exit(main(sys.argv[1:]))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-u", "-c", script, "evaluate", "none.npz", "-", "--json", "--chunk", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        child.stdin.write(
            "0,1,0,1,1,0\n" * 3 * MANY_ROWS
        )  # two chunks of many rows: the first is out when the second is there
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["row"] == 0  # now it waits for more rows
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=60) == 130
        assert child.stderr.read() == "refvlm: interrupted\n"


def test_an_interrupt_during_the_work_is_one_line_and_130(folder, run, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("refvlm.cli.evaluate.decompose", interrupted)
    assert run("evaluate", "amortised.npz", "x.npy", "--json") == (130, "", "refvlm: interrupted\n")


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def as_seen(self):
        """What stays on the screen: a carriage return goes back to the start of the line."""
        screen = []
        for line in self.getvalue().split("\n"):
            cells, position = [], 0
            for character in line:
                if character == "\r":
                    position = 0
                else:
                    cells[position : position + 1] = character
                    position += 1
            screen.append("".join(cells).rstrip())
        return "\n".join(screen)


@pytest.mark.parametrize("form", [["--json"], ["--table", "--rows", "3"], ["--rows", "7"]])
def test_progress_is_drawn_on_a_terminal_only_and_leaves_no_trace(folder, run, monkeypatch, form):
    plain = run("evaluate", "amortised.npz", "x.npy", *form)
    monkeypatch.setattr("refvlm.progress.PATIENCE", 0.0)
    terminal = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", terminal)
        shown = run("evaluate", "amortised.npz", "x.npy", "--chunk", 4, *form)
    assert shown == plain
    assert "\rrows 0 to " in terminal.getvalue()
    assert terminal.as_seen() == ""
    both = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", both)
        patch.setattr("sys.stderr", both)
        run("evaluate", "amortised.npz", "x.npy", "--chunk", 4, *form)
    assert "\rrows 0 to " in both.getvalue()
    assert both.as_seen() == "\n".join(line.rstrip() for line in plain[1].split("\n"))


def test_a_cache_that_cannot_be_kept_is_said_once(folder, run, monkeypatch):
    monkeypatch.setattr("refvlm.enumeration.kernels.compiling.cache_problem", lambda: "compiled kernels cannot be kept")
    code, out, err = run("evaluate", "amortised.npz", "x.npy", "--json", "--chunk", 2)
    assert code == 0
    then = "until then every run, and every process of a pool, compiles again"
    assert err == f"refvlm: note: compiled kernels cannot be kept; {then}\n"
    assert "note" not in out


# bad input


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "wanted a model file written by refvlm.save"),
        (b"PK\x03\x04 and nothing else", "truncated or damaged"),
        (b"\x80\x04N.", "pickle, which is never loaded"),
    ],
)
def test_a_bad_model_ends_in_65(folder, run, content, message):
    (folder / "bad.npz").write_bytes(content)
    for command in (["evaluate", "bad.npz", "x.npy"], ["sample", "bad.npz", "-n", 1]):
        result = run(*command)
        assert_fails(result, 65, message)
        assert "bad.npz" in result[2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.csv", b"0,1,0,1,0,1\n0,1,0,1,0,3\n", "bad.csv, line 2: got '3' in column 5"),
        ("bad.csv", b"0,1\n", "bad.csv, line 1: got 2 cells, wanted 6"),
        ("bad.npy", b"\x93NUMPY\x01\x00", "bad.npy: got an .npy header"),
        ("bad.npz", b"junk", "bad.npz: got the first bytes"),
    ],
)
def test_bad_data_ends_in_65_and_names_the_row(folder, run, name, content, message):
    (folder / name).write_bytes(content)
    assert_fails(run("evaluate", "amortised.npz", name), 65, message)


@pytest.mark.parametrize("line", ["0,1,2,3,4,5", "a,b,c,d,e,f"])
def test_a_header_is_skipped_and_said(folder, run, x, line):
    """Once, on standard error, whatever the command."""
    np.savetxt("named.csv", x, fmt="%d", delimiter=",", header=line, comments="")
    code, out, err = run("evaluate", "amortised.npz", "named.csv", "--json")
    assert (code, out) == run("evaluate", "amortised.npz", "x.npy", "--json")[:2]
    assert err == f"refvlm: skipped the header of named.csv ('{line}')\n"
    np.savetxt("noted.txt", x, header="1\n2\n3\n4")
    err = run("fit", "named.csv", "-o", "new.npz", "--latents", 2, "--epochs", 1, "--validation", "noted.txt")[2]
    said = [text for text in err.splitlines() if "header" in text]
    assert said == [
        f"refvlm: skipped the header of named.csv ('{line}')",
        "refvlm: skipped the header of noted.txt ('# 1', '# 2', '# 3', ...)",
    ]


def test_rows_that_outgrow_memory_end_in_65(folder, run, monkeypatch):
    """However small the file."""
    (folder / "rows.gz").write_bytes(gzip.compress(b"0, 1, 0, 1, 1, 1\n" * 50))
    monkeypatch.setattr("refvlm.checks.available_memory", lambda: 200)
    result = run("fit", "rows.gz", "-o", "new.npz")
    assert_fails(result, 65, "rows.gz: its rows, from the first to here, would need 300 bytes, and 200 bytes are")


def test_model_and_data_that_do_not_fit_end_in_65(folder, run, x):
    np.save("wide.npy", np.hstack([x, x]))
    assert_fails(run("evaluate", "amortised.npz", "wide.npy"), 65, "wide.npy: got an array of shape (11, 12)")
    assert_fails(run("evaluate", "amortised.npz", "digits"), 65, "digits: has 64 columns, wanted 6")
    assert_fails(run("evaluate", "amortised.npz", "none.npz"), 65, "a model file is no data")
    assert_fails(run("evaluate", "x.npy", "x.npy"), 65, "a single .npy array")


@pytest.mark.parametrize("kind", ["per-datum", "chain"])
@pytest.mark.parametrize("rows", [N - 2, N + 2])
def test_a_posterior_of_other_rows_ends_in_65(folder, run, x, kind, rows):
    other = np.resize(x, (rows, L))
    np.save("other.npy", other)
    np.savetxt("other.csv", other, fmt="%d", delimiter=",")
    assert_fails(run("evaluate", f"{kind}.npz", "other.npy"), 65, f"got {rows} rows, wanted {N}")
    assert_fails(run("evaluate", f"{kind}.npz", "other.csv", "--chunk", 4), 65, f"wanted {N}")


def test_what_cannot_be_computed_ends_in_65(folder, run, monkeypatch):
    def too_large(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr("refvlm.cli.evaluate.decompose", too_large)
    assert_fails(run("evaluate", "amortised.npz", "x.npy"), 65, "MemoryError")
    assert_fails(run("sample", "amortised.npz", "-n", 10**15), 65, "draw fewer rows")


@pytest.mark.parametrize("name", ["missing.npz", "x.npy/under-a-file", ".", "a\nb.npz"])
def test_what_cannot_be_read_ends_in_66(folder, run, name):
    assert_fails(run("evaluate", name, "x.npy"), 66, "cannot be read")
    assert_fails(run("evaluate", "amortised.npz", name), 66, "cannot be read")
    assert_fails(run("sample", name, "-n", 2), 66, "cannot be read")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["evaluate"],
        ["evaluate", "amortised.npz"],
        ["evaluate", "amortised.npz", "x.npy", "--chunk", "0"],
        ["evaluate", "amortised.npz", "x.npy", "--workers", "0"],
        ["evaluate", "amortised.npz", "x.npy", "--workers", "two"],
        ["evaluate", "amortised.npz", "x.npy", "--rows", "x"],
        ["evaluate", "amortised.npz", "x.npy", "--rows", "3:"],
        ["sample", "amortised.npz"],
        ["sample", "amortised.npz", "-n", "-1"],
        ["sample", "amortised.npz", "-n", "3", "-o", "x.txt"],
        ["demo", "--steps", "-1"],
    ],
)
def test_a_wrong_command_line_ends_in_2(folder, run, arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("refvlm: error: ")
    assert err.count("\n") == 1


# sample


@pytest.mark.parametrize("kind", ["amortised", "chain"])
def test_samples_are_those_of_the_library(folder, run, kind):
    model, _ = make(kind)
    x, z = model.sample(13, np.random.default_rng(4))
    as_text = "".join(",".join(map(str, row)) + "\n" for row in x.tolist())
    assert run("sample", f"{kind}.npz", "-n", 13, "--seed", 4) == (0, as_text, "")
    assert run("sample", f"{kind}.npz", "-n", 13, "--seed", 4, "-o", "new.csv") == (0, "", "")
    assert (folder / "new.csv").read_text() == as_text
    assert run("sample", f"{kind}.npz", "-n", 13, "--seed", 4, "--latents", "-o", "new.npy") == (0, "", "")
    both = np.load("new.npy")
    assert both.dtype == np.uint8
    np.testing.assert_array_equal(both, np.hstack([x, z]))
    assert run("sample", f"{kind}.npz", "-n", 0) == (0, "", "")


def test_long_samples_are_written_whole(folder, run):
    _, out, _ = run("sample", "amortised.npz", "-n", 10001)
    x, _ = make("amortised")[0].sample(10001, np.random.default_rng(0))
    np.testing.assert_array_equal(np.loadtxt(io.StringIO(out), delimiter=",", dtype=np.uint8), x)


@pytest.mark.parametrize("target", ["x.npy/new.npy", "missing/new.npy", "directory.npy"])
def test_an_output_that_cannot_be_written_ends_in_73_before_the_work(folder, run, monkeypatch, target):
    def worked(*arguments, **options):
        raise AssertionError("this is too late to notice")

    (folder / "directory.npy").mkdir()
    monkeypatch.setattr(refvlm.BernoulliLVM, "sample", worked)
    monkeypatch.setattr("refvlm.cli.demo.climb", worked)
    before = sorted(os.listdir(folder))
    assert_fails(run("sample", "amortised.npz", "-n", 5, "-o", target), 73, target)
    assert_fails(run("demo", "-o", target), 73, target)
    assert sorted(os.listdir(folder)) == before


def test_a_write_that_fails_ends_in_73_and_leaves_nothing(folder, run, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    before = sorted(os.listdir(folder))
    result = run("sample", "amortised.npz", "-n", 5, "-o", "new.npy")
    assert_fails(result, 73, "new.npy: cannot be written: No space left")
    assert sorted(os.listdir(folder)) == before


# demo, help


@pytest.mark.parametrize(
    ("found", "started", "program"),
    [
        ("/bin/refvlm", "x", "refvlm"),
        (None, ".venv/bin/refvlm", ".venv/bin/refvlm"),
        (None, "/lib/refvlm/__main__.py", "python -m refvlm"),
    ],
)
def test_the_demo_names_the_program_as_it_can_be_typed(monkeypatch, found, started, program):
    monkeypatch.setattr("shutil.which", lambda name: found)
    monkeypatch.setattr("sys.argv", [started])
    assert demo._program() == program


def test_the_first_compilation_is_announced(monkeypatch, folder, run):
    monkeypatch.setattr(kernels.compiling, "cold", lambda: True)
    assert "compiling the loops first, once" in run("evaluate", "amortised.npz", "x.npy")[2]


def test_an_interrupt_inside_a_kernel_is_an_interrupt(folder):
    """SIGINT while compiled code runs in the main thread: numba makes it a SystemError, and we an interrupt again."""
    program = (
        "import os, signal, sys, threading\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import numpy as np, refvlm\n"
        "from refvlm.enumeration import kernels\n"
        "from refvlm.inference import arrays\n"
        "rng = np.random.default_rng(0)\n"
        "source = arrays.source(refvlm.MLP.random([28, 40, 30], rng))\n"
        "prior, x = arrays.log_probabilities(refvlm.Bernoulli(np.zeros(28))), np.zeros((1, 30), np.uint8)\n"
        "kernel = kernels.marginal.marginal\n"
        "kernel(source.piece(0, 64), 0, 64, prior, x, False)\n"
        "threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        "    kernel(source.piece(0, 1 << 23), 0, 1 << 26, prior, x, False)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


def test_the_demo_leaves_a_model_and_its_next_commands_work(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: name)
    code, out, err = run("demo", "--steps", 2, "-o", "a name.npz")
    assert code == 0
    assert err.startswith("refvlm: fitting a model to 1797 handwritten digits")
    assert os.listdir(tmp_path) == ["a name.npz"]
    assert "means over 1797 rows" in out
    assert "log p(x) = VLB + KL holds for every row" in out
    assert f"coin tosses have {-64 * math.log(2):.1f};" in out
    assert max(len(line) for line in out.splitlines()) <= 120
    commands = [shlex.split(line.split("     ")[0]) for line in out.splitlines() if line.startswith("  refvlm ")]
    assert [command[1] for command in commands] == ["evaluate", "evaluate", "sample", "fit"]
    (tmp_path / "TABLE.csv").write_text("moss,fern,lichen\n" + "0,1,1\n1,0,1\n" * 5)
    for command in commands:
        assert run(*command[1:])[0] == 0
    model, q = refvlm.load("a name.npz")
    rows = objects(run("evaluate", "a name.npz", "digits", "--json")[1])
    assert [row["kl"] for row in rows[:-1]] == refvlm.kl(model, q, refvlm.digits()).tolist()


def test_the_demo_learns_and_speaks_json(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    means = []
    for steps in (0, 3):
        code, out, _ = run("demo", "--steps", steps, "--json", "--workers", 1)
        *rows, last = objects(out)
        assert code == 0
        assert len(rows) == 1797
        means.append(last["summary"]["mean_log_px"])
    assert means[1] > means[0] + 5
    assert os.listdir(tmp_path) == ["refvlm-demo.npz"]


@pytest.mark.parametrize(
    "arguments",
    ["--help", "--version", "evaluate --help", "demo -h", "sample -h", "bench -h", "conform -h", "answer -h"],
)
def test_help_loads_neither_numba_nor_scipy(arguments):
    script = (
        "import sys\nfrom refvlm.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as error:\n"
        "    heavy = [name for name in ('numba', 'llvmlite', 'scipy') if name in sys.modules]\n"
        "    print(heavy, file=sys.stderr)\n    sys.exit(error.code)\n"
    )
    command = [sys.executable, "-c", script, *arguments.split()]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "[]\n")
    assert ended.stdout


def test_help_documents_every_exit_code(run):
    code, out, _ = run("--help")
    assert code == 0
    codes = [line.split()[0] for line in out.splitlines() if line[2:3].isdigit()]
    assert codes == ["0", "1", "2", "3", "4", "65", "66", "69", "71", "73", "129", "130", "143"]


def test_help_documents_every_json_key(folder, run):
    text = run("evaluate", "--help")[1]
    lines = objects(run("evaluate", "amortised.npz", "x.npy", "--json", "--table")[1])
    keys = {key for line in lines for key in line} | set(lines[-1]["summary"]) | set(lines[-3]["sums"])
    assert all(f'"{key}"' in text for key in keys)


def test_the_version_has_one_source(run):
    assert run("--version") == (0, f"refvlm {refvlm.__version__}\n", "")
    ended = process("--version")
    assert (ended.returncode, ended.stdout) == (0, f"refvlm {refvlm.__version__}\n")
