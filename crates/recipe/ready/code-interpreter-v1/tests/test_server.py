"""Contexts, languages and what comes back, over HTTP."""

import json
import os
import shutil
import socket
import time
import unittest
from pathlib import Path

from .server import Server, of, printed, value

LOOPS = {
    "python": ("kept = 7", "while True: pass", "kept"),
    "javascript": ("const kept = 7", "while (true) {}", "kept"),
    "typescript": ("const kept: number = 7", "await new Promise(() => {})", "kept"),
    "bash": ("kept=7", "f() { while true; do sleep 0.1; done; }; f; echo after", "echo $kept"),
}


class OverHttp(unittest.TestCase):
    """One server for all."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server()
        cls.addClassCleanup(cls.server.close)

    def test_what_comes_of_code_in_its_order(self) -> None:
        outputs = self.server.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\n20 + 1")
        self.assertEqual(outputs[0]["type"], "number_of_executions")
        self.assertEqual(outputs[-1], {"type": "end_of_execution"})
        self.assertEqual((printed(outputs), printed(outputs, "stderr"), value(outputs)), ("out\n", "err\n", "21"))
        self.assertEqual(value(self.server.run("'a\"b'")), 'a"b')
        failed = self.server.run("1 / 0")
        (error,) = of(failed, "error")
        self.assertEqual((error["name"], error["value"]), ("ZeroDivisionError", "division by zero"))
        self.assertIn("1 / 0", error["traceback"])

    def test_it_is_told_while_it_goes_on(self) -> None:
        gate = Path(self.server.folder.name, "gate")
        code = f"import os, time\nprint('before', flush=True)\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\nprint('after')"
        connection = self.server.begin("POST", "/execute", {"code": code})
        response = connection.getresponse()
        heard = []
        while "before\n" not in heard:
            heard.append(json.loads(response.readline()).get("text"))
        gate.touch()
        self.assertIn("after", response.read().decode())
        connection.close()

    def test_whoever_is_silent_is_told_that_it_goes_on(self) -> None:
        outputs = self.server.run("import time\ntime.sleep(5.5)")
        self.assertTrue(of(outputs, "keepalive"))

    def test_results_have_all_their_forms(self) -> None:
        shown = """
from IPython.display import display
display({"text/plain": "t", "text/html": "h", "text/markdown": "m", "image/svg+xml": "s", "image/png": "cA==", "image/jpeg": "ag==",
         "application/pdf": "cGRm", "text/latex": "l", "application/json": {"k": [1]}, "application/javascript": "j", "a/b": "x"}, raw=True)
"""
        (result,) = of(self.server.run(shown), "result")
        self.assertEqual(
            result,
            {
                "type": "result",
                "is_main_result": False,
                **{"text": "t", "html": "h", "markdown": "m", "svg": "s", "png": "cA==", "jpeg": "ag==", "pdf": "cGRm"},
                **{"latex": "l", "json": {"k": [1]}, "javascript": "j", "extra": {"a/b": "x"}},
            },
        )

    def test_variables_of_the_environment_are_there_for_one_execution(self) -> None:
        hard = "é'\"$(x)\\\n "
        show = {
            "python": "import os; print(repr(os.environ.get('HARD')), end='')",
            "javascript": "process.stdout.write(String(process.env.HARD))",
            "bash": 'printf %s "$HARD"',
        }
        for language, code in show.items():
            with_it = printed(self.server.run(code, language=language, env_vars={"HARD": hard}))
            self.assertEqual(with_it, repr(hard) if language == "python" else hard, language)
            without = printed(self.server.run(code, language=language))
            self.assertIn(without, ("None", "undefined", ""), language)

    def test_contexts_keep_their_variables_to_themselves(self) -> None:
        make = lambda **more: json.loads(self.server.call("POST", "/contexts", more)[1])
        one, other = make(), make(language="python", cwd=os.sep)
        self.assertEqual((one["language"], one["cwd"], other["cwd"]), ("python", self.server.folder.name, os.sep))
        self.server.run("mine = 1", context_id=one["id"])
        (error,) = of(self.server.run("mine", context_id=other["id"]), "error")
        self.assertEqual(error["name"], "NameError")
        self.assertEqual(value(self.server.run("import os; os.getcwd()", context_id=other["id"])), os.sep)
        listed = [context["id"] for context in json.loads(self.server.call("GET", "/contexts")[1])]
        self.assertTrue({one["id"], other["id"]} <= set(listed))
        self.assertEqual(self.server.call("POST", f"/contexts/{one['id']}/restart"), (200, "null"))
        self.assertTrue(of(self.server.run("mine", context_id=one["id"]), "error"))
        for context in (one, other):
            self.assertEqual(self.server.call("DELETE", f"/contexts/{context['id']}"), (200, "null"))
        self.assertEqual(self.server.call("DELETE", f"/contexts/{one['id']}")[0], 404)

    def test_what_cannot_be_done_is_refused_in_words(self) -> None:
        for body, status, part in [
            ({"code": "1", "context_id": "x", "language": "python"}, 400, "not both"),
            ({"code": "1", "context_id": "x"}, 404, "context x"),
            ({"code": "1", "language": "java"}, 400, "python, r, javascript, typescript, bash"),
            ({}, 400, "code"),
            ({"code": "1", "env_vars": {"A=B": "1"}}, 400, "A=B"),
            ([], 400, "object"),
        ]:
            answer = self.server.call("POST", "/execute", body)
            self.assertEqual(answer[0], status, answer)
            self.assertIn(part, answer[1])
        self.assertEqual(self.server.call("POST", "/contexts", {"cwd": "/nowhere"})[0], 400)
        self.assertEqual(self.server.call("GET", "/elsewhere")[0], 404)

    def test_who_says_more_than_was_asked_has_not_hung_up(self) -> None:
        body = b'{"code": "import time; time.sleep(0.3); 6 * 7"}'
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as connection:
            connection.sendall(b"POST /execute HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            connection.sendall(b"\r\nmore")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        self.assertIn(b'"42"', answer)

    def test_a_kernel_that_ended_comes_back(self) -> None:
        for language, code in [("python", "import os; os._exit(1)"), ("javascript", "process.exit(1)"), ("bash", "exit 1")]:
            with self.subTest(language):
                self.needs(language)
                (error,) = of(self.server.run(code, language=language), "error")
                self.assertEqual(error["name"], "KernelDied")
                self.assertFalse(of(self.server.run("1 + 1" if language != "bash" else "true", language=language), "error"))

    def test_who_hangs_up_interrupts_and_nothing_is_forgotten(self) -> None:
        for language, (keep, loop, look) in LOOPS.items():
            with self.subTest(language):
                self.needs(language)
                context = json.loads(self.server.call("POST", "/contexts", {"language": language})[1])
                self.server.run(keep, context_id=context["id"])
                connection = self.server.begin("POST", "/execute", {"code": loop, "context_id": context["id"]})
                response = connection.getresponse()
                self.assertIn("number_of_executions", response.readline().decode())
                response.close()
                connection.close()
                outputs = self.server.run(look, context_id=context["id"])
                self.assertIn("7", [value(outputs), printed(outputs).strip()])
                self.server.call("DELETE", f"/contexts/{context['id']}")

    def test_javascript_and_typescript(self) -> None:
        self.needs("javascript")
        run = lambda code, language="javascript": self.server.run(code, language=language)
        self.assertEqual(value(run("const a = { x: 1 }; a.x + 1")), "2")
        self.assertEqual(value(run("const a = 5; console.log('q'); a")), "5", "a cell can be run again")
        self.assertEqual(value(run("import fs, { sep as s } from 'path'; import * as os from 'os';\nconst z = await Promise.resolve(s); z")), "/")
        self.assertEqual(value(run("typeof os.cpus")), "function")
        for code, name in [("throw new TypeError('no')", "TypeError"), ("let q = (", "SyntaxError"), ("await Promise.reject(new RangeError())", "RangeError")]:
            (error,) = of(run(code), "error")
            self.assertEqual(error["name"], name)
        (shown,) = of(run("display({ 'text/html': '<b>' }); undefined"), "result")
        self.assertEqual((shown["html"], shown["is_main_result"]), ("<b>", False))
        child = run("require('child_process').execSync('echo sub', { stdio: 'inherit' }); console.log('after')")
        self.assertEqual(printed(child), "sub\nafter\n")
        self.assertEqual(value(run("interface P { n: number }\nconst p: P = { n: 3 }\np.n as number", "typescript")), "3")

    def test_bash(self) -> None:
        run = lambda code: self.server.run(code, language="bash")
        run("declare -a rows=(1 2); cd /; f() { echo from f; }")
        self.assertEqual(printed(run("echo ${rows[1]} $PWD; f; cat")), "2 /\nfrom f\n")
        (error,) = of(run("echo no >&2; (exit 3)"), "error")
        self.assertEqual((error["name"], error["value"]), ("ExitStatus", "3"))
        self.assertEqual(len(printed(run("yes | head -c 3000000"))), 3_000_000)

    def needs(self, language: str) -> None:
        if language in ("javascript", "typescript") and not Path("/usr/share/nodejs/typescript").exists() or not shutil.which("bash"):
            self.skipTest(f"what {language} needs is not installed")

    def test_much_output_is_whole(self) -> None:
        outputs = self.server.run("for i in range(20000): print(i)")
        self.assertEqual(printed(outputs), "".join(f"{i}\n" for i in range(20000)))


class Ending(unittest.TestCase):
    """What is left when it ends."""

    def test_no_kernel_outlives_it(self) -> None:
        server = Server()
        pids = [int(printed(server.run(code, language=language))) for language, code in [("python", "import os; print(os.getpid())"), ("bash", "echo $$")]]
        server.close()
        deadline = time.monotonic() + 10
        for pid in pids:
            while Path(f"/proc/{pid}/exe").exists():
                self.assertLess(time.monotonic(), deadline)
