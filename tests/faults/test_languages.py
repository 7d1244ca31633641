"""How a submission's files and commands become a running program: situations in which that once failed."""

from collections.abc import Callable
from typing import Any

import pytest
from serving import Server

Run = Callable[..., dict[str, Any]]


def text_files(**contents: str) -> list[dict[str, str]]:
    return [{"name": name, "content": content} for name, content in contents.items()]


def ends_well(result: dict[str, Any], stdout: str) -> None:
    assert result["verdict"] == "ok", result
    assert result["run"]["stdout"] == stdout
    assert result["run"]["stderr"] == ""


@pytest.mark.parametrize(
    ("name", "stdout"),
    [
        ("java-class-not-public-not-Main", "hi\n"),
        ("java-commented-public-class", "hi\n"),
        ("java-public-class-without-main", "4\n"),
        ("java-heap-of-the-limit", "28000000\n"),
        ("main-file-is-data", "a,b\n1,2\n\n"),
        ("go-package-in-folder", "7\n"),
        ("typescript-mts", "5\n"),
        ("typescript-standin-types", ""),
        ("rename-folder-that-was-sent", ""),
        ("helper-script-not-executable", "helped\n"),
    ],
)
def test_a_program_that_once_failed_is_ok(run_fault: Run, name: str, stdout: str) -> None:
    ends_well(run_fault(name), stdout)


MAIN = "public static void main(String[] args) { System.out.println(%s); }"
PRINTS_4 = MAIN % "4"
JAVA = {
    "a class that is not public, after another": {
        "Main.java": "class Helper { }\nclass App { " + PRINTS_4 + " }",
    },
    "two files, the second has main": {
        "Util.java": "class Util { static int four() { return 4; } }",
        "App.java": "public class App { " + MAIN % "Util.four()" + " }",
    },
    "a package in folders": {
        "src/app/Main.java": "package app;\npublic class Main { " + PRINTS_4 + " }"
    },
    "a package without folders": {"Main.java": "package a.b.c;\nclass Main { " + PRINTS_4 + " }"},
    "a public class whose name is not the file's": {
        "Main.java": "public class Hi { " + PRINTS_4 + " }"
    },
    "two public classes in one file": {
        "Main.java": "public class A { }\npublic class B { " + PRINTS_4 + " }",
    },
    "a text block with a class": {
        "Main.java": 'class Main {\nString s = """\npublic class Block {\n}\n""";\n'
        + PRINTS_4
        + " }",
    },
    "a string with a class and a quote": {
        "Main.java": 'class Main { String s = "\\"public class X {"; ' + PRINTS_4 + " }",
    },
    "a record": {"Main.java": "record Point(int x) { " + MAIN % "new Point(4).x()" + " }"},
    "an enum": {"Main.java": "enum E { A; " + PRINTS_4 + " }"},
    "an interface": {
        "Main.java": "interface I { static void main(String... a) { System.out.println(4); } }",
    },
    "a nested class": {"Main.java": "class Outer { static class Inner { " + PRINTS_4 + " } }"},
    "an array that is written as in C": {
        "Main.java": "class M { public static void main(String words[]) { System.out.println(4); } }",
    },
    "a class that only calls another's main": {
        "Main.java": "class A { void go(String[] a) { B.main(a); } }\nclass B { " + PRINTS_4 + " }",
    },
    "letters beyond ASCII": {"Main.java": "public class Größe { " + PRINTS_4 + " }"},
    "a module": {
        "module-info.java": "module four { }",
        "p/Main.java": "package p; public class Main { " + PRINTS_4 + " }",
    },
    "a package with a package-info": {
        "p/package-info.java": "/** P. */\n@Deprecated package p;",
        "p/Main.java": "package p; public class Main { " + PRINTS_4 + " }",
        "p/Other.java": "package p; class Other { }",
    },
    "a folder that is called like our file": {
        "Main.java": "class Main { " + PRINTS_4 + " }",
        ".main/x": "",
        "main2": "",
    },
}


@pytest.mark.parametrize("arrangement", JAVA)
def test_java_finds_the_class_that_has_main(server: Server, arrangement: str) -> None:
    body = {"language": "java", "files": text_files(**JAVA[arrangement])}
    result = run(server, body)
    ends_well(result, "4\n")
    assert result["compile"]["stderr"] == ""  # several files are nothing to be warned of


def run_all(server: Server, bodies: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Several at once, which takes less time; the results by the same names."""
    answers = {name: server.post(body) for name, body in bodies.items()}
    assert all(answer.status == 202 for answer in answers.values()), answers
    return {name: server.result(answer.json()["id"]) for name, answer in answers.items()}


def run(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    answer = server.post(body)
    assert answer.status == 202, answer.body
    return server.result(answer.json()["id"])


EMPTY = {
    "python": "ok",
    "javascript": "ok",
    "bash": "ok",
    "sql": "ok",
    "typescript": "ok",
    "c": "compile_error",
    "go": "compile_error",
    "java": "compile_error",
}


@pytest.mark.parametrize("language", EMPTY)
def test_an_empty_source_is_a_program_like_another(server: Server, language: str) -> None:
    result = run(server, {"language": language, "source": ""})
    assert result["verdict"] == EMPTY[language], result


@pytest.mark.parametrize(
    ("name", "id"),
    [("Python", "python"), ("PY", "python"), ("C++", "cpp"), ("js", "javascript"), ("JS", "javascript"),
     ("SQL (SQLite)", "sql"), ("TypeScript", "typescript"), ("C", "c"), ("golang", "go")],
)  # fmt: skip
def test_a_language_is_found_by_its_names_in_any_case(server: Server, name: str, id: str) -> None:
    answer = server.post({"language": name, "source": ""})
    assert answer.status == 202, answer.body
    assert answer.json()["language"]["id"] == id


def test_what_a_source_may_be_is_told_as_one_would_write_it(server: Server) -> None:
    answer = server.post({"language": "c", "source": 1})
    assert answer.json()["detail"] == 'source: must be a string or {"base64": "…"}'


def refused(server: Server, body: dict[str, Any]) -> str:
    answer = server.post(body)
    assert answer.status == 422, answer.body
    return str(answer.json()["detail"])


def test_files_of_which_none_can_be_the_main_one_are_refused(server: Server) -> None:
    files = text_files(**{"a.csv": "1", "b.csv": "2"})
    detail = refused(server, {"language": "python", "files": files})
    assert "main.py" in detail
    assert ".py" in detail


def test_one_file_alone_is_the_main_one_whatever_its_name(server: Server) -> None:
    body = {"language": "python", "files": text_files(program="print(4)")}
    ends_well(run(server, body), "4\n")


def test_a_java_source_takes_no_name_that_another_file_has(server: Server) -> None:
    body = {
        "language": "java",
        "source": "/* public class Util */\nclass Main { " + MAIN % "Util.four()" + " }",
        "files": text_files(**{"Util.java": "class Util { static int four() { return 4; } }"}),
    }
    ends_well(run(server, body), "4\n")
    harness = {
        "language": "java",
        "source": "public class Solution { static int four() { return 4; } }",
        "files": text_files(**{"Main.java": "class Main { " + MAIN % "Solution.four()" + " }"}),
    }
    ends_well(run(server, harness), "4\n")


def test_a_java_class_with_too_long_a_name_is_the_programs_error(server: Server) -> None:
    source = f"public class {'A' * 251} {{ {PRINTS_4} }}"
    result = run(server, {"language": "java", "source": source})
    assert (result["verdict"], result["attempts"]) == ("compile_error", 1)
    assert "name too long" in result["compile"]["stderr"]


def test_java_says_that_there_is_no_main(server: Server) -> None:
    result = run(server, {"language": "java", "source": "public class Util { }"})
    assert result["verdict"] == "runtime_error"
    assert "Main method not found in class Util" in result["run"]["stderr"]


def test_java_options_that_move_its_output_do_not_hide_the_class(server: Server) -> None:
    body = {"language": "java", "source": "class Main { " + PRINTS_4 + " }"}
    ends_well(run(server, body | {"compile_args": ["-d", "out", "-Xlint:all", "-J-Xmx99m"]}), "4\n")


FULL = {
    "java": "import java.util.*; class Main { public static void main(String[] a) {"
    " List<int[]> all = new ArrayList<>(); for (;;) all.add(new int[1 << 20]); } }",
    "javascript": "require('v8').setFlagsFromString('--max-old-space-size=20');"
    "const all = []; for (;;) all.push({ all: [1, 2, 3] })",
    "php": "<?php ini_set('memory_limit', '20M'); $all = []; for (;;) $all[] = [1];",
    "go": 'package main\nvar all [][]byte\nfunc main() { for { all = append(all, make([]byte, 1<<46)) } }',
    "ruby": "'x' * (1 << 46)",
    "python": "bytearray(1 << 46)",
    "cpp": "#include <vector>\nint main() { std::vector<char> v(1ull << 46); return v[1]; }",
    "rust": "fn main() { println!(\"{}\", vec![1u8; 1 << 46].len()); }",
    "lua": "io.read(1 << 46)",
    "perl": "my $s = 'x' x (1 << 46);",
}  # fmt: skip


@pytest.mark.parametrize("language", FULL)
def test_a_runtime_that_says_its_memory_is_full_has_met_the_limit(
    server: Server, language: str
) -> None:
    result = run(server, {"language": language, "source": FULL[language]})
    assert (result["verdict"], result["run"]["limit"]) == ("memory_limit", "memory"), result["run"]
    assert result["run"]["exit_code"] != 0


THREADS = """
class Main {
    public static void main(String[] words) throws Exception {
        for (;;) { Thread t = new Thread(() -> { for (;;) Thread.yield(); }); t.setDaemon(true); t.start(); }
    }
}
"""


def test_too_many_threads_are_no_want_of_memory(server: Server) -> None:
    result = run(server, {"language": "java", "source": THREADS, "limits": {"cpu_time": 20}})
    assert "OutOfMemoryError: unable to create native thread" in result["run"]["stderr"]
    assert (result["verdict"], result["run"]["limit"]) == ("runtime_error", None)


TALKS = {
    "an exit code of 0": "import sys; print('MemoryError', file=sys.stderr)",
    "words that are 16 KiB behind": "import sys; sys.exit('MemoryError\\n' + 'x' * 17000)",
    "words on stdout": "import sys; print('MemoryError'); sys.exit(1)",
    "words within a line": "import sys; sys.exit('this is no MemoryError')",
}


@pytest.mark.parametrize("case", TALKS)
def test_talk_of_memory_alone_is_no_limit(server: Server, case: str) -> None:
    result = run(server, {"language": "python", "source": TALKS[case]})
    assert result["verdict"] in ("ok", "runtime_error")
    assert result["run"]["limit"] is None


def test_more_errors_than_a_mebibyte_are_a_compile_error(server: Server) -> None:
    source = "".join(f'int a{n} = "text";\n' for n in range(9000)) + "int main() {}\n"
    result = run(server, {"language": "cpp", "source": source})
    assert result["verdict"] == "compile_error"
    assert len(result["compile"]["stderr"].encode()) == 2**20
    assert result["compile"]["stderr_truncated"]
    assert "main.cpp:1" in result["compile"]["stderr"]
    assert "1048576 bytes" in result["message"]


C = "#include <stdio.h>\nint main(void) { puts(\"4\"); return 0; }\n"  # fmt: skip


@pytest.mark.parametrize("language", ["c", "cpp", "go"])
def test_a_compiler_told_to_write_elsewhere_writes_the_program(
    server: Server, language: str
) -> None:
    source = 'package main\nfunc main() { print("") }' if language == "go" else C
    body = {"language": language, "source": source, "compile_args": ["-o", "app"]}
    assert run(server, body)["verdict"] == "ok"


@pytest.mark.parametrize("option", ["-c", "-E", "-S", "-fsyntax-only"])
def test_a_compiler_told_to_write_no_program_is_a_compile_error(
    server: Server, option: str
) -> None:
    result = run(server, {"language": "c", "source": C, "compile_args": [option]})
    assert result["verdict"] == "compile_error"
    assert "no program" in result["compile"]["stderr"]


@pytest.mark.parametrize("options", [["--outDir", "out"], ["--noEmit"], ["--version"]])
def test_tsc_told_to_write_no_program_is_a_compile_error(
    server: Server, options: list[str]
) -> None:
    body = {"language": "typescript", "source": "console.log(4)", "compile_args": options}
    result = run(server, body)
    assert result["verdict"] == "compile_error"
    assert "wrote no main.js" in result["compile"]["stderr"]


STRANGE: dict[str, dict[str, Any]] = {
    "words as long as Linux takes": {"args": ["x" * 131_071], "limits": {"memory": 2**20}},
    "a thousand empty words": {"args": [""] * 1000},
    "an environment as large as may be": {"env": {f"A{n}": "x" * 120 for n in range(1000)}},
    "nowhere to look for programs": {"env": {"PATH": "", "LD_LIBRARY_PATH": "/box", "IFS": "x"}},
    "limits near nothing": {
        "limits": {"cpu_time": 0.001, "wall_time": 0.001, "memory": 2**20, "processes": 1,
                   "output": 1, "file_size": 1}
    },
    "names like ours": {
        "files": text_files(**dict.fromkeys(
            ["upper", "work/x", "box", "compiled", ".occd-init", "main/x", ".main", "x" * 255,
             "@x", "+x", "a=b", "'\"`$;|<>*?[]{}()!#~ %", "\u202e", "package.json", "go.mod"], ""
        ))
    },
    "many files in deep folders": {
        "files": [
            {"name": "/".join([f"{n:03}".ljust(13, "d")] * 15) + "/file", "content": "x"}
            for n in range(190)
        ]
    },
    "8 MiB": {"files": [{"name": f"f{n}", "content": "x" * 44_000} for n in range(190)]},
}  # fmt: skip


@pytest.mark.parametrize("language", ["python", "c", "java"])
def test_strange_input_is_never_our_failure(server: Server, language: str) -> None:
    source = {"python": "print(4)", "c": C, "java": "class Main { " + PRINTS_4 + " }"}[language]
    bodies = {
        kind: {"language": language, "source": source} | fields for kind, fields in STRANGE.items()
    }
    for kind, result in run_all(server, bodies).items():
        assert result["verdict"] != "internal_error", kind
        assert result["attempts"] == 1, kind


@pytest.mark.parametrize("name", ["n" * 252 + ".rs", "x.y.rs", "1 2.rs", "match.rs"])
def test_a_rust_file_may_have_any_name(server: Server, name: str) -> None:
    files = text_files(**{name: 'fn main() { println!("4") }'})
    ends_well(run(server, {"language": "rust", "files": files}), "4\n")


@pytest.mark.parametrize("choice", ["--edition=2018", "--edition 2018", "--edition 2018 -O -g"])
def test_rust_can_be_told_its_edition(server: Server, choice: str) -> None:
    """2021 and its prelude otherwise."""
    source = 'fn main() { let n = u8::try_from(4u32).unwrap(); println!("{n}"); }'
    ends_well(run(server, {"language": "rust", "source": source}), "4\n")
    in_2018 = {"language": "rust", "source": source, "compile_args": choice.split()}
    assert "TryFrom" in run(server, in_2018)["compile"]["stderr"]
    in_2018["source"] = "use std::convert::TryFrom;\n" + source
    ends_well(run(server, in_2018), "4\n")


@pytest.mark.parametrize("language", ["c", "cpp", "go", "rust", "java"])
def test_files_that_are_called_like_the_program_do_not_hinder_it(
    server: Server, language: str
) -> None:
    source = {
        "c": C,
        "cpp": C,
        "go": 'package main\nimport "fmt"\nfunc main() { fmt.Println(4) }',
        "rust": 'fn main() { println!("4") }',
        "java": "class Main { " + PRINTS_4 + " }",
    }[language]
    bodies = {
        " ".join(names): {
            "language": language,
            "source": source,
            "files": text_files(**dict.fromkeys(names, "data")),
        }
        for names in (["main"], ["main/x"], ["main", "main2/x"], [".main/x"])
    }
    for result in run_all(server, bodies).values():
        ends_well(result, "4\n")


@pytest.mark.parametrize("language", ["c", "rust", "go"])
def test_a_program_that_is_too_large_is_told_so(server: Server, language: str) -> None:
    source = {
        "c": "int a[20000000] = {1};\nint main(void) { return a[2]; }\n",
        "rust": "static A: [u32; 20000000] = [7; 20000000];\n"
        'fn main() { println!("{}", A[std::env::args().count()]); }',
        "go": "package main\nvar a = [20000000]int32{1: 5}\nfunc main() { println(a[1]) }",
    }[language]
    result = run(server, {"language": language, "source": source})
    assert result["verdict"] == "compile_error", result
    assert "larger than a program may be here" in result["message"]
    assert "bug" not in result["compile"]["stderr"]


def test_a_go_package_that_is_not_main_is_a_compile_error(server: Server) -> None:
    source = "package tools\n\nfunc Four() int { return 4 }\n"
    result = run(server, {"language": "go", "source": source})
    assert result["verdict"] == "compile_error"
    assert "package main" in result["compile"]["stderr"]


GO_MAIN = 'package main\n\nimport (\n"fmt"\n"%s"\n)\n\nfunc main() { fmt.Println(%s()) }\n'
GO = {
    "a command in a folder of the module": {
        "go.mod": "module example.com/app\n\ngo 1.19\n",
        "cmd/app/main.go": GO_MAIN % ("example.com/app/foo", "foo.Four"),
        "foo/foo.go": "package foo\n\nfunc Four() int { return 4 }\n",
    },
    "a module in a folder": {
        "app/go.mod": "module app\n\ngo 1.19\n",
        "app/main.go": GO_MAIN % ("app/foo", "foo.Four"),
        "app/foo/foo.go": "package foo\n\nfunc Four() int { return 4 }\n",
    },
    "a vendored package": {
        "go.mod": "module app\n\ngo 1.19\n\nrequire example.com/four v1.0.0\n",
        "main.go": GO_MAIN % ("example.com/four", "four.Four"),
        "vendor/example.com/four/four.go": "package four\n\nfunc Four() int { return 4 }\n",
        "vendor/modules.txt": "# example.com/four v1.0.0\n## explicit\nexample.com/four\n",
    },
    "two files and their test, without a module": {
        "main.go": 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println(four()) }\n',
        "four.go": "package main\n\nfunc four() int { return 4 }\n",
        "four_test.go": 'package main\n\nimport "testing"\n\nfunc TestFour(t *testing.T) {}\n',
    },
}


@pytest.mark.parametrize("arrangement", GO)
def test_go_builds_the_package_of_the_main_file(server: Server, arrangement: str) -> None:
    ends_well(run(server, {"language": "go", "files": text_files(**GO[arrangement])}), "4\n")


TYPESCRIPT = {
    "a CommonJS file": {
        "main.cts": "import os = require('os');\nconsole.log(os.EOL.length + 3);\n"
    },
    "two ECMAScript modules": {
        "main.mts": "import { four } from './lib.mjs';\nconsole.log(four);\n",
        "lib.mts": "export const four: number = await Promise.resolve(4);\n",
    },
    "two CommonJS modules": {
        "main.ts": "import { four } from './lib';\nconsole.log(four);\n",
        "lib.ts": "export const four: number = 4;\n",
    },
    "a package that says module": {
        "package.json": '{"type": "module"}',
        "main.ts": "import { four } from './lib.js';\nconsole.log(four);\n",
        "lib.ts": "export const four: number = 4;\n",
    },
    "a top-level await": {
        "main.ts": "const n: number = await Promise.resolve(4);\nconsole.log(n);\n"
    },
    "a top-level for await": {"main.ts": "for await (const n of [4]) console.log(n);\n"},
    "import.meta": {
        "main.ts": "import { existsSync } from 'fs';\n"
        "console.log(existsSync(new URL(import.meta.url)) ? 4 : 5);\n",
    },
    "an import of JSON": {
        "main.ts": "import data from './data.json';\nconst n: number = data.n;\nconsole.log(n);\n",
        "data.json": '{"n": 4}',
    },
    "types of Node.js": {
        "main.ts": "import { EventEmitter } from 'node:events';\nimport * as fs from 'fs';\n"
        "const e: EventEmitter = new EventEmitter();\nlet b: Buffer = Buffer.from('4\\n');\n"
        "e.on('go', (x: Buffer) => fs.writeSync(1, x));\ne.emit('go', b);\n",
    },
}


@pytest.mark.parametrize("arrangement", TYPESCRIPT)
def test_typescript_compiles_and_runs(server: Server, arrangement: str) -> None:
    body = {"language": "typescript", "files": text_files(**TYPESCRIPT[arrangement])}
    ends_well(run(server, body), "4\n")


def test_typescript_checks_the_types_of_node(server: Server) -> None:
    source = "import * as fs from 'fs';\nconst n: number = fs.readFileSync(0, 'utf8');\n"
    result = run(server, {"language": "typescript", "source": source})
    assert result["verdict"] == "compile_error"
    assert "main.ts(2,7): error TS2322" in result["compile"]["stdout"]
