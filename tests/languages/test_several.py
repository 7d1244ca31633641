"""A program of several files is one program, as by the ordinary command line of its language. Which languages
are tried is as in test_proof.py."""

import pytest
from proving import among, trial_of
from sandboxed import Lab

from occd.languages import Language
from occd.model import File
from occd.proving import Trial

pytestmark = pytest.mark.promise

SEVERAL = {
    "ada": (
        (
            "with Lib; with Ada.Text_IO;\n"
            "procedure Main is\n"
            "begin\n"
            "  Ada.Text_IO.Put_Line (Lib.F (20)'Image);\n"
            "end Main;\n"
        ),
        "lib.ads",
        "package Lib is function F (X : Integer) return Integer is (X * 2 + 2); end Lib;\n",
    ),
    "clojure": (
        '(load-file "lib.clj")\n(println (f 20))\n',
        "lib.clj",
        "(defn f [x] (+ 2 (* x 2)))\n",
    ),
    "coffeescript": (
        '{f} = require "./lib"\nconsole.log f 20\n',
        "lib.coffee",
        "exports.f = (x) -> x * 2 + 2\n",
    ),
    "common-lisp": (
        '(load "lib.lisp")\n(print (f 20))\n',
        "lib.lisp",
        "(defun f (x) (+ 2 (* x 2)))\n",
    ),
    "crystal": ('require "./lib"\nputs f(20)\n', "lib.cr", "def f(x)\n  x * 2 + 2\nend\n"),
    "csharp": (
        "class P { static void Main() { System.Console.WriteLine(Lib.F(20)); } }\n",
        "Lib.cs",
        "class Lib { public static int F(int x) { return x * 2 + 2; } }\n",
    ),
    "d": (
        "import lib; import std.stdio;\nvoid main() { writeln(f(20)); }\n",
        "lib.d",
        "module lib;\nint f(int x) { return x * 2 + 2; }\n",
    ),
    "elixir": (
        'Code.require_file("lib.exs")\nIO.puts(Lib.f(20))\n',
        "lib.exs",
        "defmodule Lib do\n  def f(x), do: x * 2 + 2\nend\n",
    ),
    "erlang": (
        '-module(main).\n-export([main/0]).\nmain() -> io:format("~p~n", [lib2:f(20)]).\n',
        "lib2.erl",
        "-module(lib2).\n-export([f/1]).\nf(X) -> X * 2 + 2.\n",
    ),
    "forth": ("include lib.fs\n20 f .\n", "lib.fs", ": f 2 * 2 + ;\n"),
    "fortran": (
        "program m\n  use lib\n  print *, f(20)\nend program\n",
        "lib.f90",
        (
            "module lib\n"
            "contains\n"
            "  integer function f(x)\n"
            "    integer, intent(in) :: x\n"
            "    f = x * 2 + 2\n"
            "  end function\n"
            "end module\n"
        ),
    ),
    "groovy": ("println new Lib().f(20)\n", "Lib.groovy", "class Lib { def f(x) { x * 2 + 2 } }\n"),
    "haskell": (
        "import Lib (f)\nmain :: IO ()\nmain = print (f 20)\n",
        "Lib.hs",
        "module Lib (f) where\nf :: Int -> Int\nf x = x * 2 + 2\n",
    ),
    "haxe": (
        "class Main { static function main() { Sys.println(Lib.f(20)); } }\n",
        "Lib.hx",
        "class Lib { public static function f(x:Int) return x * 2 + 2; }\n",
    ),
    "kotlin": ("fun main() { println(f(20)) }\n", "lib.kt", "fun f(x: Int) = x * 2 + 2\n"),
    "nim": ("import lib\necho f(20)\n", "lib.nim", "proc f*(x: int): int = x * 2 + 2\n"),
    "ocaml": ("let () = print_int (Lib.f 20)\n", "lib.ml", "let f x = x * 2 + 2\n"),
    "octave": ("disp(f(20))\n", "f.m", "function y = f(x)\n  y = x * 2 + 2;\nend\n"),
    "pascal": (
        "program p;\nuses lib;\nbegin writeln(f(20)); end.\n",
        "lib.pas",
        (
            "unit lib;\n"
            "interface\n"
            "function f(x: integer): integer;\n"
            "implementation\n"
            "function f(x: integer): integer;\n"
            "begin f := x * 2 + 2; end;\n"
            "end.\n"
        ),
    ),
    "prolog": (
        ":- [lib].\n:- initialization(main).\nmain :- f(20, Y), write(Y), nl, halt.\n",
        "lib.pl",
        "f(X, Y) :- Y is X * 2 + 2.\n",
    ),
    "r": ('source("lib.R")\ncat(f(20), "\\n")\n', "lib.R", "f <- function(x) x * 2 + 2\n"),
    "racket": (
        '#lang racket\n(require "lib.rkt")\n(displayln (f 20))\n',
        "lib.rkt",
        "#lang racket\n(provide f)\n(define (f x) (+ 2 (* x 2)))\n",
    ),
    "raku": (
        'use lib ".";\nuse Lib;\nsay f(20);\n',
        "Lib.rakumod",
        "unit module Lib;\nsub f($x) is export { $x * 2 + 2 }\n",
    ),
    "scala": (
        "object Main extends App { println(Lib.f(20)) }\n",
        "Lib.scala",
        "object Lib { def f(x: Int) = x * 2 + 2 }\n",
    ),
    "scheme": ('(load "lib.scm")\n(display (f 20))\n', "lib.scm", "(define (f x) (+ 2 (* x 2)))\n"),
    "standard-ml": (
        'use "lib.sml";\nval () = print (Int.toString (f 20) ^ "\\n");\n',
        "lib.sml",
        "fun f x = x * 2 + 2;\n",
    ),
    "tcl": ("source lib.tcl\nputs [f 20]\n", "lib.tcl", "proc f x { expr {$x * 2 + 2} }\n"),
    "typescript": (
        'import { f } from "./lib";\nconsole.log(f(20));\n',
        "lib.ts",
        "export const f = (x: number) => x * 2 + 2;\n",
    ),
    "vala": (
        'void main () { print ("%d\\n", f (20)); }\n',
        "lib.vala",
        "int f (int x) { return x * 2 + 2; }\n",
    ),
    "verilog": (
        'module main; wire [7:0] y; lib u(8\'d20, y); initial begin #1 $display("%0d", y); end endmodule\n',
        "lib.v",
        "module lib(input [7:0] x, output [7:0] y); assign y = x * 2 + 2; endmodule\n",
    ),
    "zig": (
        (
            'const std = @import("std");\n'
            'const lib = @import("lib.zig");\n'
            'pub fn main() void { std.debug.print("{d}\\n", .{lib.f(20)}); }\n'
        ),
        "lib.zig",
        "pub fn f(x: u32) u32 { return x * 2 + 2; }\n",
    ),
}
"""Each writes 42, which it gets from the second file: that file's name, and its text."""

MODULES = {
    "fortran": (
        "program m\n  use, intrinsic :: iso_fortran_env\n  use :: a, only: f\n  print *, f()\nend\n",
        {
            "b.f90": (
                "MODULE b\r\n  interface\r\n    module integer function g()\r\n"
                "    end function\r\n  end interface\r\nEND MODULE\r\n"
            ),
            "a c.f90": (
                "submodule (b) c ! \udce9\ncontains\n  module procedure g\n    g = 20\n  end procedure\nend\n"
            ),
            "a.f90": (
                "module a; ! \udce9\n  use b ! \udce9\ncontains\n"
                "  integer function f()\n    f = 2 * g() + 2\n  end\nend\n"
            ),
        },
    ),
    "modula2": (
        (
            "MODULE Hello;\nFROM A IMPORT F;\nFROM NumberIO IMPORT WriteCard;\n"
            "BEGIN WriteCard (F (20), 0) END Hello.\n"
        ),
        {
            "A.def": "DEFINITION MODULE A;\nPROCEDURE F (x: CARDINAL) : CARDINAL;\nEND A.\n",
            "A.mod": (
                "IMPLEMENTATION MODULE A;\nPROCEDURE F (x: CARDINAL) : CARDINAL;\n"
                "BEGIN RETURN x * 2 + 2 END F;\nEND A.\n"
            ),
            "old A.mod": "MODULE Other; END Other.\n",
            "folder.mod/a": "",
        },
    ),
}
"""Of languages whose compilers want modules one by one, or in an order: the program, and its other files, of
which some are in Latin-1, and some no modules."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    alone = metafunc.function is test_modules_are_compiled_as_the_compiler_wants_them
    metafunc.parametrize("language", among(metafunc.config, MODULES if alone else SEVERAL))


async def test_a_program_of_two_files_runs(
    lab: Lab, language: Language, request: pytest.FixtureRequest
) -> None:
    source, name, content = SEVERAL[language.id]
    trial = trial_of(lab, language, request.config)
    assert await _wrote(trial, source, {name: content}) == "42"


async def test_modules_are_compiled_as_the_compiler_wants_them(
    lab: Lab, language: Language, request: pytest.FixtureRequest
) -> None:
    source, files = MODULES[language.id]
    assert await _wrote(trial_of(lab, language, request.config), source, files) == "42"


async def _wrote(trial: Trial, source: str, files: dict[str, str]) -> str:
    beside = [
        File(name, content.encode(errors="surrogateescape")) for name, content in files.items()
    ]
    last = (await trial.run(source, beside=beside))[-1]
    assert last.outcome.succeeded, last
    return (last.stdout + last.stderr).strip()
