"""The code interpreter SDK, unmodified: every method of its own, and what comes of code."""

import asyncio
import base64
import time

import pytest
from conftest import do

interpreter = pytest.importorskip("e2b_code_interpreter", reason="this client is none for the code interpreter")


async def test_the_value_of_the_last_line_and_variables_that_stay(sandbox):
    await do(sandbox.run_code("x = 20"))
    done = await do(sandbox.run_code("x + 1"))
    assert (done.text, done.error, done.logs.stdout) == ("21", None, [])
    assert done.results[0].is_main_result and done.execution_count >= 2
    assert (await do(sandbox.run_code("import os; os.getcwd(), os.environ['USER']"))).text == "('/home/user', 'user')"


async def test_what_is_printed_and_an_error(sandbox):
    heard = {name: [] for name in ("stdout", "stderr", "result", "error")}
    code = "import sys\nprint('out')\nprint('err', file=sys.stderr)\ndisplay(1)\n1 / 0"
    done = await do(sandbox.run_code(code, **{f"on_{name}": said.append for name, said in heard.items()}))
    assert ("".join(done.logs.stdout), "".join(done.logs.stderr)) == ("out\n", "err\n")
    assert (done.error.name, done.error.value) == ("ZeroDivisionError", "division by zero")
    assert "1 / 0" in done.error.traceback
    assert ["".join(said.line for said in heard[name]) for name in ("stdout", "stderr")] == ["out\n", "err\n"]
    now = time.time_ns()
    assert all(abs(now - said.timestamp) < 600e9 for said in heard["stdout"])
    assert ([one.text for one in heard["result"]], [one.name for one in heard["error"]]) == (["1"], ["ZeroDivisionError"])


async def test_callbacks_hear_it_while_it_goes_on(sandbox):
    seen = []
    code = "import time\nfor i in range(3):\n    print(i, flush=True)\n    time.sleep(0.5)"
    await do(sandbox.run_code(code, on_stdout=lambda said: seen.append((said.line, time.monotonic()))))
    assert "".join(line for line, _ in seen) == "0\n1\n2\n"
    assert seen[-1][1] - seen[0][1] > 0.5


async def test_images_charts_and_tables(sandbox):
    code = "import matplotlib.pyplot as plt\nplt.bar(['a', 'b'], [3, 4])\nplt.title('T')\nplt.ylabel('Size (kg)')\nplt.show()"
    (figure,) = (await do(sandbox.run_code(code))).results
    assert base64.b64decode(figure.png).startswith(b"\x89PNG")
    chart = figure.chart
    assert (chart.type, chart.title, chart.y_label, chart.y_unit) == (interpreter.charts.ChartType.BAR, "T", "Size (kg)", "kg")
    assert [(one.label, one.value) for one in chart.elements] == [("a", 3.0), ("b", 4.0)]
    table = (await do(sandbox.run_code("import pandas as pd\npd.DataFrame({'n': [1, None], 's': ['x', 'y']})"))).results[0]
    assert table.data == {"n": [1.0, None], "s": ["x", "y"]}
    assert {"text", "html", "data"} <= set(table.formats())
    code = "fig, axes = plt.subplots(1, 2)\naxes[0].plot([1, 2], [3, 4], label='l')\naxes[1].scatter([1], [2])\nplt.show()"
    both = (await do(sandbox.run_code(code))).results[0].chart
    assert [one.type for one in both.elements] == [interpreter.charts.ChartType.LINE, interpreter.charts.ChartType.SCATTER]
    assert both.elements[0].elements[0].points == [(1.0, 3.0), (2.0, 4.0)]


async def test_every_kind_of_result(sandbox):
    kinds = "html markdown svg png jpeg pdf latex json javascript".split()
    code = """
from IPython.display import display
display({"text/html": "h", "text/markdown": "m", "image/svg+xml": "s", "image/png": "cA==", "image/jpeg": "ag==",
         "application/pdf": "cGRm", "text/latex": "l", "application/json": {"k": 1}, "application/javascript": "j", "a/b": "x"}, raw=True)
"""
    (shown,) = (await do(sandbox.run_code(code))).results
    assert {kind: shown[kind] for kind in kinds if kind != "json"} == {
        "html": "h", "markdown": "m", "svg": "s", "png": "cA==", "jpeg": "ag==", "pdf": "cGRm", "latex": "l", "javascript": "j",
    }  # fmt: skip
    assert (shown.json, shown.extra) == ({"k": 1}, {"a/b": "x"})


@pytest.mark.parametrize(
    "language, code, text",
    [
        ("javascript", "const { sep } = await import('path'); [sep, 1]", "[ '/', 1 ]"),
        ("typescript", "const n: number = 41\nn + 1", "42"),
        ("r", "sum(1:4)", "[1] 10"),
    ],
)
async def test_other_languages(sandbox, language, code, text):
    done = await do(sandbox.run_code(code, language=language))
    assert [one.text for one in done.results] == [text]


async def test_bash_and_what_is_not_there(sandbox):
    done = await do(sandbox.run_code("cd /; echo $PWD $A", language="bash", envs={"A": "b c"}))
    assert done.logs.stdout == ["/ b c\n"]
    with pytest.raises(interpreter.SandboxException, match="java"):
        await do(sandbox.run_code("1", language="java"))


async def test_variables_of_the_environment(make):
    sandbox = await make(envs={"OF_SANDBOX": "1"})
    code = "import os; [os.environ.get(name) for name in ('OF_SANDBOX', 'OF_CODE')]"
    assert (await do(sandbox.run_code(code, envs={"OF_CODE": "2"}))).text == "['1', '2']"
    assert (await do(sandbox.run_code(code))).text == "['1', None]"


async def test_contexts(sandbox):
    one = await do(sandbox.create_code_context())
    other = await do(sandbox.create_code_context(cwd="/tmp", language="python"))
    assert (one.language, one.cwd, other.cwd) == ("python", "/home/user", "/tmp")
    await do(sandbox.run_code("mine = 1", context=one))
    assert (await do(sandbox.run_code("mine", context=other))).error.name == "NameError"
    assert (await do(sandbox.run_code("import os; os.getcwd()", context=other))).text == "/tmp"
    with pytest.raises(interpreter.InvalidArgumentException):
        await do(sandbox.run_code("1", context=other, language="python"))


async def test_contexts_are_listed_restarted_and_removed(sdk, sandbox):
    sdk.needs("Sandbox", "list_code_contexts")
    one, other = [await do(sandbox.create_code_context()) for _ in range(2)]
    assert {one.id, other.id} <= {context.id for context in await do(sandbox.list_code_contexts())}
    await do(sandbox.run_code("mine = 1", context=one))
    await do(sandbox.restart_code_context(one))
    assert (await do(sandbox.run_code("mine", context=one))).error.name == "NameError"
    await do(sandbox.remove_code_context(one.id))
    assert one.id not in {context.id for context in await do(sandbox.list_code_contexts())}
    with pytest.raises(interpreter.NotFoundException, match=one.id):
        await do(sandbox.run_code("1", context=one))


async def test_too_late_interrupts_and_forgets_nothing(sandbox):
    await do(sandbox.run_code("kept = 7"))
    with pytest.raises(interpreter.TimeoutException):
        await do(sandbox.run_code("while True: pass", timeout=2))
    done = await do(sandbox.run_code("kept", timeout=30))
    assert done.text == "7"


async def test_who_goes_away_interrupts(sdk, sandbox):
    if not sdk.is_async:
        pytest.skip("nobody can go away from a call that waits")
    await sandbox.run_code("kept = 7")
    begun = asyncio.Event()
    code = "import time\nprint('begun', flush=True)\ntime.sleep(1000)"
    running = asyncio.ensure_future(sandbox.run_code(code, on_stdout=lambda _: begun.set()))
    await asyncio.wait_for(begun.wait(), 30)
    running.cancel()
    await asyncio.wait({running})
    assert (await sandbox.run_code("kept", timeout=30)).text == "7"


async def test_a_long_silence(sandbox):
    assert (await do(sandbox.run_code("import time; time.sleep(12); 'over'"))).text == "over"


async def test_two_at_once_in_two_contexts_and_one_after_another_in_one(sdk, sandbox):
    if not sdk.is_async:
        pytest.skip("one call after another")
    contexts = [await sandbox.create_code_context() for _ in range(2)]
    code = "import time; begin = time.time(); time.sleep(1); (begin, time.time())"

    async def spans(*where):
        said = await asyncio.gather(*(sandbox.run_code(code, context=context) for context in where))
        return sorted(eval(one.text) for one in said)

    first, second = await spans(*contexts)
    assert second[0] < first[1]
    first, second = await spans(contexts[0], contexts[0])
    assert second[0] >= first[1]
