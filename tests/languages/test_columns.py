"""The page marks what each language's compiler or runtime means: columns are counted as the tool counts them,
behind tabs and behind characters of all sizes. The real tools say it, and the page's own code finds it. Which
languages are tried is as in test_proof.py."""

from pathlib import Path
from typing import Any

import pytest
from placing import build_parser, parse, place
from proving import among, trial_of
from sandboxed import Lab

from occd.languages import Language
from occd.proving import Stage, told_of_places

pytestmark = pytest.mark.promise

MARKED: dict[str, tuple[tuple[str, str], ...]] = {
    "ada": (
        ('procedure Main is\n\tX : String := "äö😀" & Nix;\nbegin\n   null;\nend Main;\n', "Nix;…"),
    ),
    "asp": (("\ta :- ) .\n", ") .…"), ('a("äö😀"). b :- ) .\n', ") .…")),
    "assemblyscript": (("function f(): void {\n\tlet s = '😀'; nix();\n}\nf();\n", "nix"),),
    "bun": (("\tlet s = 'äö😀'; nix();\n", "nix();…"),),
    "c": (('int main(void) {\n\tchar *s = "äö😀"; nix;\n}\n', "nix"),),
    "chez": (('"äö😀" ) 5)\n', ") 5)…"),),
    "clang-c": (('int main(void) {\n\tchar *s = "äö😀"; nix;\n}\n', "nix;…"),),
    "clojure": (('\t"äö😀" (nix 2)\n', "(nix 2)…"),),
    "coconut": (('if True:\n    s = "äö😀"; f(\n', "(…"),),
    "coffeescript": (('s = "äö😀"; nix()\n', "nix()…"), ('s = "äö😀"; ) 3\n', ") 3…")),
    "cpp": (('int main() {\n\tauto s = "äö😀"; nix;\n}\n', "nix"),),
    "crystal": (('\ts = "äö😀"; nix\n', "nix…"),),
    "csharp": (('class P {\n\tstatic void Main() { var s = "äö😀"; nix(); }\n}\n', "nix(); }…"),),
    "cython": (
        ("def f():\n\ts = '😀'; return g(\n", "…"),
        ("def f():\n\tcdef int x = nix\n", "nix…"),
    ),
    "d": (('void main() {\n\tstring s = "äö😀"; nix();\n}\n', "nix();…"),),
    "deno": (("\tlet s = 'äö😀'; nix();\n", "nix();…"), ("let s = 'äö😀';\tlet = )3;\n", ")3;…")),
    "ecj": (
        (
            'class Main {\n\tvoid f() {\n\t\tString s = "äö😀"; nix();\n\t}\n}\n',
            "nix",
        ),
    ),
    "elixir": (('\ts = "äö😀"; ) 2\n', ") 2…"),),
    "elvish": (('\techo "äö😀"; echo $nix\n', "$nix…"),),
    "erlang": (('-module(main).\n-export([main/1]).\nmain(_) ->\n\t"äö😀", ) .\n', ") .…"),),
    "fortran": (('program p\n\timplicit none\n\tprint *, "äö😀", n\nend program\n', "n…"),),
    "gccgo": (('package main\nfunc main() {\n\ts := "äö😀"; nix(s)\n}\n', "nix(s)…"),),
    "gdc": (('void main() {\n\tstring s = "äö😀"; nix();\n}\n', "nix();…"),),
    "go": (('package main\nfunc main() {\n\ts := "äö😀"; nix(s)\n}\n', "nix(s)…"),),
    "gprolog": ((":- initialization(main).\nmain :-\n\twrite('äö😀'), ) .\n", ") .…"),),
    "groovy": (
        ('if (true) {\n\tdef s = "äö😀"; ) 2\n}\n', ") 2…"),
        ('@groovy.transform.CompileStatic\nvoid f() {\n\tdef s = "äö😀"; int z = nix\n}\n', "nix…"),
    ),
    "haskell": (('main :: IO ()\nmain = do {\n\tputStrLn "äö😀"; nix }\n', "nix }…"),),
    "haxe": (
        ('class Main {\n\tstatic function main() {\n\t\tvar s = "äö😀"; nix();\n\t}\n}\n', "nix"),
    ),
    "hermes": (
        ("\tvar s = 'äö😀'; nix();\n", "nix();…"),
        ("\tvar s = 'äö😀'; var = 3;\n", "= 3;…"),
    ),
    "java": (('class Main {\n\tString s = "äö😀"; int x = nix;\n}\n', "nix;…"),),
    "javascript": (("\tlet s = 'äö😀'; nix();\n", "nix();…"),),
    "jsonnet": (
        ('{\n\ts: "äö😀", b: nix }\n', "nix }…"),
        ('{ s: "äö😀", b: error "x" }\n', 'error "x" }…'),
    ),
    "kotlin": (('fun main() {\n\tval s = "äö😀"; nix()\n}\n', "nix"),),
    "llvm": (("define i32 @main() {\n\tret i32 %nix\n}\n", "%nix…"),),
    "minizinc": (('\tconstraint "äö😀" = nix;\n', "nix;…"), ("\tconstraint );\n", ");…")),
    "nbb": (('\t"äö😀" (nix 2)\n', "(nix 2)…"),),
    "nim": (('let s = "äö😀"; nix()\n', "nix()…"),),
    "ocaml": (('let () =\n\tprint_string "äö😀"; nix ()\n', "nix"),),
    "octave": (
        ("\tdisp('äö😀'); x = (1 + ;\n", ";…"),
        ("\ts = 'äö😀'; error('x')\n", "error('x')…"),
    ),
    "pascal": (("program p;\nbegin\n\twriteln('äö😀'); nix;\nend.\n", "nix;…"),),
    "pkl": (('  s = "äö😀"; y = nix\n', "nix"),),
    "qsharp": (('function Main() : Unit {\n\tlet s = "äö😀"; nix();\n}\n', "nix();…"),),
    "racket": (('#lang racket\n\t(display "äö😀")\t(nix 2)\n', "nix 2)…"),),
    "raku": (("my $x = 1;\n\tnix($x);\n", ""), ("my $x = 1;\n\tmy = 2;\n", "")),
    "rescript": (('\tlet s = "äö😀"; let y = nix\n', "nix…"),),
    "rust": (('fn main() {\n\tlet _s = "äö😀"; nix();\n}\n', "nix"),),
    "sass": (('a {\n\tb: "äö😀"; c: $nix; }\n', "$nix; }…"),),
    "scala": (('object Main extends App {\n\tval s = "äö😀";\tnix()\n}\n', "nix()…"),),
    "scheme": (('\t(display "äö😀") (car 5)\n', "(car 5)…"),),
    "typescript": (("\tlet s = 'äö😀'; nix();\n", "nix();…"),),
    "typst": (("\täö😀 #nix\n", "nix…"),),
    "vala": (('void main () {\n\tvar s = "äö😀"; nix ();\n}\n', "nix ();…"),),
    "vhdl": (
        (
            """entity main is end;
architecture a of main is
begin
  process begin
\treport "hi" severity failure;
    wait;
  end process;
end;
""",
            'report "hi" severity failure;…',
        ),
        (
            """entity main is end;
architecture a of main is
begin
  process begin
\treport "äö";\tnix <= 1;
    wait;
  end process;
end;
""",
            "nix <= 1;…",
        ),
    ),
    "wat": (("(module\n\t(func (nix))\n)\n", "nix"),),
    "xonsh": (('if True:\n\ts = "äö😀"; x = )\n', ")…"),),
    "z3": (
        ('\t(echo "äö😀") (assert (= nix 1))\n', "nix 1))…"),
        ('\n\t(echo "äö😀") (assert (= nix 1))\n', "nix 1))…"),
    ),
    "zig": (("pub fn main() void {\n\tnix();\n}\n", "nix();…"),),
}
"""Programs that are wrong at one place, and what is marked: up to the line's end and `…` where the tool does
not tell the end; nothing where it tells the line alone."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("language", among(metafunc.config, MARKED))


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_parser(tmp_path_factory.mktemp("parser"))


async def test_what_the_tool_means_is_marked(
    lab: Lab, language: Language, parser: Path, request: pytest.FixtureRequest
) -> None:
    trial = trial_of(lab, language, request.config)
    asked = [_asked(language, source, await trial.run(source)) for source, _ in MARKED[language.id]]
    found = parse(parser, asked)
    for (source, marked), said, each in zip(MARKED[language.id], asked, found, strict=True):
        places = [place(problem, source).partition(":")[2] for problem in each["problems"]]
        assert any(at.partition(":")[2] == marked for at in places), (places, said)


def _asked(language: Language, source: str, stages: list[Stage]) -> dict[str, Any]:
    """The page looks at this."""
    count = 1 if language.compile else 0
    compiled, ran = stages[:count], stages[count:]
    return {
        "patterns": [each.json() for each in language.problems],
        "main": language.file_name,
        "files": {language.file_name: source},
        "renamed": language.file_name_pattern is not None,
        "compile": "".join(each.stdout + each.stderr for each in compiled),
        "run": "".join(told_of_places(language, each, compiled=False) for each in ran),
        "ok": False,
    }
