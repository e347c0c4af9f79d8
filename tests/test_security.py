"""No pickles, no shell, no code out of data: held by reading the program's own source.

What of this is left to others is named here and in docs/security.md: demucs unpickles its weights (encoder/separation)
and a peer given as a Python file is run (evaluation/peers/registry.py).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("encoder", "store", "reranker", "evaluation", "flows", "benchmarks", "deploy", ".ci")
# Called as these, whatever with.
FORBIDDEN = {
    "eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pickle.load",
    "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads", "dill.load", "dill.loads",
    "joblib.load", "marshal.load", "marshal.loads", "shelve.open", "yaml.load", "yaml.full_load", "yaml.unsafe_load",
    "pandas.read_pickle", "pd.read_pickle", "tempfile.mktemp",
}  # fmt: skip
STARTING = {"subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_call", "subprocess.check_output"}
RUNS_FILES = {"evaluation/peers/registry.py": "spec.loader.exec_module"}  # a peer's own Python file, by command only
UNPICKLES = {"encoder/separation.py"}  # demucs's weights


def files() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def violations(source: str) -> Iterator[str]:
    """Line and name of each call that breaks the rule."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if _breaks(name, node, given):
                yield f"{node.lineno}: {name}"


def _breaks(name: str, call: ast.Call, given: dict[str | None, str]) -> bool:
    if name in FORBIDDEN or name.endswith(".exec_module") or given.get("shell", "False") != "False":
        return True
    if name == "torch.load":
        return given.get("weights_only") != "True"
    if name in ("np.load", "numpy.load"):
        return given.get("allow_pickle", "False") != "False"
    if name.endswith("Environment"):  # jinja2
        return "autoescape" not in given
    # A command is a list: one made out of text may be taken apart where a file's name has a blank.
    return name in STARTING and bool(call.args) and isinstance(call.args[0], ast.Constant | ast.JoinedStr | ast.BinOp)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_evaluated_or_given_to_a_shell(path):
    name = str(path.relative_to(ROOT))
    found = [one for one in violations(path.read_text()) if not one.endswith(RUNS_FILES.get(name, "\0"))]
    assert found == [], f"{name}: see docs/security.md"


def test_weights_that_are_pickles_are_loaded_in_one_place():
    importing = {
        str(p.relative_to(ROOT)) for p in files() if "from demucs" in p.read_text() or "import demucs" in p.read_text()
    }
    assert importing == UNPICKLES


@pytest.mark.parametrize(
    "line",
    ["subprocess.run(command, shell=True)", "subprocess.run(f'ffmpeg -i {path}')", "subprocess.Popen('ls ' + path)",
     "pickle.load(file)", "torch.load(path)", "torch.load(path, weights_only=False)", "yaml.load(text)", "eval(text)",
     "np.load(path, allow_pickle=True)", "os.system('ls')", "spec.loader.exec_module(m)", "jinja2.Environment()"],
)  # fmt: skip
def test_the_rule_sees_what_it_forbids(line):
    assert len(list(violations(line))) == 1


@pytest.mark.parametrize(
    "line",
    ["subprocess.run(['ls', path])", "subprocess.run([*command, path], check=True)", "network.eval()",
     "torch.load(path, weights_only=True)", "yaml.safe_load(text)", "np.load(path)", "Environment(autoescape=True)"],
)  # fmt: skip
def test_the_rule_lets_the_rest_pass(line):
    assert list(violations(line)) == []
