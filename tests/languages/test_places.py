"""What each language's compiler and runtime say of places in a program, found by the patterns of the
language's file. The real ones say it, and the page's own code finds it."""

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from placing import build_parser, parse, place
from serving import API, Server

from occd.languages.loading import load_languages

Found = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """`expected` has for each problem its severity, its place and a part of its message. A place is
    `file:line`, or `file:line:text` with the text that is marked, or where it begins if that ends in `…`.
    Where versions mark more or less, it is several of these with ` or ` between."""

    language: str
    source: str
    expected: tuple[tuple[str, str, str], ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    compile_args: tuple[str, ...] = ()
    tty: bool = False


def error(place: str, message: str) -> tuple[str, str, str]:
    return ("error", place, message)


def warning(place: str, message: str) -> tuple[str, str, str]:
    return ("warning", place, message)


def note(place: str, message: str) -> tuple[str, str, str]:
    return ("note", place, message)


PYTHON = {
    "a traceback ends in another file": Case(
        "python",
        "import helper\n\ndef f(x):\n    return helper.div(x)\nf(0)\n",
        (error("helper.py:2:1 / x", "ZeroDivisionError: division by zero"),),
        {"helper.py": "def div(x):\n    return 1 / x\n"},
    ),
    "the last frame that is not the library's": Case(
        "python",
        "import json\n\ndef f():\n    json.loads('{')\nf()\n",
        (error("main.py:4 or main.py:4:json.loads('{')", "JSONDecodeError"),),
    ),
    "syntax": Case("python", "x = 1\nprint('a'\n", (error("main.py:2:(…", "was never closed"),)),
    "indentation": Case(
        "python", "def f():\n  x = 1\n   y = 2\n", (error("main.py:3", "IndentationError"),)
    ),
    "syntax of a module": Case(
        "python",
        "import bad\n",
        (error("bad.py:2:(…", "SyntaxError"),),
        {"bad.py": "\ny = (\n"},
    ),
    "a chain": Case(
        "python",
        "try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise ValueError('bad') from e\n",
        (note("main.py:2:1/0", "ZeroDivisionError"), error("main.py:4", "ValueError: bad")),
    ),
    "an exception while another is handled": Case(
        "python",
        "try:\n    {}['k']\nexcept KeyError:\n    nix\n",
        (note("main.py:2:{}['k']", "KeyError: 'k'"), error("main.py:4", "NameError")),
    ),
    "recursion": Case(
        "python",
        "def f():\n    return f()\nf()\n",
        (error("main.py:2 or main.py:2:f()", "RecursionError"),),
    ),
    "recursion of two": Case(
        "python",
        "def f(n):\n    return g(n) + 1\n\n\ndef g(n):\n    return f(n) + 1\n\n\nf(1)\n",
        (error("main.py:", "RecursionError"),),
    ),
    "a group": Case(
        "python",
        "def f():\n    try:\n        1/0\n    except ZeroDivisionError as e:\n"
        "        raise ExceptionGroup('many', [e, ValueError('b')])\nf()\n",
        (
            note("main.py:3:1/0", "ZeroDivisionError"),
            error("main.py:5", "ExceptionGroup: many"),
        ),
    ),
    "a thread": Case(
        "python",
        "import threading\ndef g():\n    1/0\nt = threading.Thread(target=g)\nt.start(); t.join()\n",
        (warning("main.py:3:1/0", "ZeroDivisionError"),),
    ),
    "a message of several lines": Case(
        "python", "assert 1 == 2, 'two\\nlines'\n", (error("main.py:1:1 == 2", "two"),)
    ),
    "characters of all sizes": Case(
        "python",
        "if 1:\n\täöü = '😀e\u0301'; print(äöü.nix)\n",
        (error("main.py:2:äöü.nix", "AttributeError"),),
    ),
    "at a terminal": Case(
        "python", "print('x')\n1/0\n", (error("main.py:2:1/0", "Zero"),), tty=True
    ),
    "warnings": Case(
        "python",
        "import warnings\n'abc' is 3\nwarnings.warn('old')\n",
        (warning("main.py:2", '"is" with'), warning("main.py:3", "UserWarning: old")),
    ),
    "a signal": Case(
        "python",
        "import ctypes, faulthandler\nfaulthandler.enable()\nctypes.string_at(0)\n",
        (error("main.py:3", "Segmentation fault"),),
    ),
    "no place": Case("python", "import sys\nsys.exit('bye')\n"),
}

C = {
    "errors and warnings": Case(
        "c",
        "int main(void) {\n  char x = 300;\n  x = x / 0\n  return 0;\n}\n",
        (
            warning("main.c:2:300", "overflow in conversion"),
            warning("main.c:3:/ 0…", "division by zero"),
            error("main.c:3:…", "before ‘return’"),
        ),
    ),
    "a header that is not there": Case(
        "c", '\n#include "nix.h"\nint main(void) {}\n', (error('main.c:2:"nix.h"', "No such file"),)
    ),
    "an included file": Case(
        "c",
        '#include "h.h"\nint main(void) { return g(1); }\n',
        (error("h.h:1:nix", "undeclared"),),
        {"h.h": "static int g(int a) { return nix + a; }\n"},
    ),
    "another source": Case(
        "c",
        "int g(void);\nint main(void) { return g(); }\n",
        (error("g.c:2:…", "expected"),),
        {"g.c": "int g(void) { return 1; }\nint x = ;\n"},
    ),
    "the linker": Case(
        "c",
        "void f(void);\nint main(void) {\n  f();\n}\n",
        (error("main.c:3:f", "undefined reference"),),
    ),
    "the linker, with lines": Case(
        "c",
        "void f(void);\nint main(void) {\n  f();\n}\n",
        (error("main.c:3", "undefined reference"),),
        compile_args=("-g",),
    ),
    "no main": Case("c", "int x;\n", (error("main.c:1", "main"),)),
    "two of one name": Case(
        "c",
        "int x = 1;\nint main(void) {}\n",
        (error("main.c:1:x", "multiple definition"),),
        {"g.c": "int x = 2;\n"},
    ),
    "characters of all sizes": Case(
        "c",
        'int main(void) {\n\tchar *s = "äö😀e\u0301";\tchar y = 300;\tint nix(void);\tnix();\n}\n',
        (
            warning("main.c:2:300", "overflow in conversion"),
            error("main.c:2:nix", "undefined reference"),
        ),
    ),
    "an assertion": Case(
        "c",
        "#include <assert.h>\nint main(void) {\n  assert(1 == 2);\n}\n",
        (error("main.c:3", "1 == 2"),),
    ),
    "a sanitizer of addresses": Case(
        "c",
        "#include <stdlib.h>\nint main(int n, char **a) {\n  int *p = malloc(4 * n);\n  p[n] = 1;\n"
        "  return p[0];\n}\n",
        (error("main.c:4", "heap-buffer-overflow"),),
        compile_args=("-g", "-O0", "-fsanitize=address"),
    ),
    "a sanitizer of behaviour": Case(
        "c",
        "#include <limits.h>\nint main(int n, char **a) {\n  int x = INT_MAX;\n  x = x + n;\n"
        "  return x > 0;\n}\n",
        (warning("main.c:4:= x…", "signed integer overflow"),),
        compile_args=("-fsanitize=undefined",),
    ),
}

CPP = {
    "errors": Case(
        "cpp",
        '#include <string>\nint main() {\n  std::string s = 3.5f + "x";\n  auto x = nix;\n}\n',
        (error("main.cpp:3:", "invalid operands"), error("main.cpp:4:nix", "not declared")),
    ),
    "a template": Case(
        "cpp",
        "template<class T> T f(T t) { return t.nix(); }\nint main() { f(3); }\n",
        (error("main.cpp:1:nix", "nix"),),
    ),
    "a template of the library": Case(
        "cpp",
        "#include <algorithm>\n#include <list>\nint main() {\n  std::list<int> l;\n"
        "  std::sort(l.begin(), l.end());\n}\n",
        (error("main.cpp:5:", "no match for ‘operator-’"),),
    ),
    "the linker": Case(
        "cpp",
        "struct A { void f(); };\nint main() {\n  A a; a.f();\n}\n",
        (error("main.cpp:3:f", "A::f()"),),
    ),
}

JAVA = {
    "errors": Case(
        "java",
        'public class Main {\n    public static void main(String[] a) {\n        int x = "s";\n'
        "        foo();\n    }\n}\n",
        (
            error('Main.java:3:"…', "String cannot be converted to int"),
            error("Main.java:4:foo…", "cannot find symbol: method foo()"),
        ),
    ),
    "syntax": Case(
        "java", "class Main {\n void main( { } }\n", (error("Main.java:2:{…", "illegal start"),)
    ),
    "a warning": Case(
        "java",
        "import java.util.*;\nclass Main {\n  public static void main(String[] a) {\n"
        "    List l = new ArrayList();\n    l.add(1);\n  }\n}\n",
        (warning("Main.java:5:(…", "unchecked call"),),
        compile_args=("-Xlint:unchecked",),
    ),
    "characters of all sizes": Case(
        "java",
        'class Main {\n\tString ä = "😀ä"; int x = true;\n}\n',
        (error("Main.java:2:true…", "boolean cannot be converted"),),
    ),
    "an exception": Case(
        "java",
        "import java.util.*;\nclass Main {\n  static int f(List<Integer> l) { return l.get(0); }\n"
        "  public static void main(String[] a) {\n    f(new ArrayList<>());\n  }\n}\n",
        (error("Main.java:3", "IndexOutOfBoundsException"),),
    ),
    "a class of another name in its file's": Case(
        "java",
        "public class Other {\n  public static void main(String[] a) {\n    int[] x = {};\n"
        "    x[1] = 2;\n  }\n}\n",
        (error("Main.java:4", "ArrayIndexOutOfBoundsException"),),
    ),
    "a file in a folder": Case(
        "java",
        "class Main {\n  public static void main(String[] a) {\n    p.Q.f(null);\n  }\n}\n",
        (error("p/Q.java:4", "NullPointerException"),),
        {
            "p/Q.java": "package p;\npublic class Q {\n  public static void f(Object o) {\n"
            "    o.hashCode();\n  }\n}\n"
        },
    ),
    "a cause": Case(
        "java",
        'class Main {\n  static void f() {\n    Integer.parseInt("x");\n  }\n'
        "  public static void main(String[] a) {\n    try { f(); }\n"
        '    catch (Exception e) {\n      throw new RuntimeException("outer\\nline", e);\n    }\n  }\n}\n',
        (
            error("Main.java:8", "RuntimeException: outer"),
            note("Main.java:3", "NumberFormatException"),
        ),
    ),
    "an initializer": Case(
        "java",
        "class Main {\n  static int x = 1 / 0;\n  public static void main(String[] a) {}\n}\n",
        (note("Main.java:2", "ArithmeticException"),),
    ),
    "recursion": Case(
        "java",
        "class Main {\n  static int f() { return f() + 1; }\n  public static void main(String[] a) {\n"
        "    f();\n  }\n}\n",
        (error("Main.java:2", "StackOverflowError"),),
    ),
}

JAVASCRIPT = {
    "an exception": Case(
        "javascript",
        "function f(x) {\n  return x.y.z;\n}\nf({});\n",
        (error("main.js:2:z…", "TypeError: Cannot read properties"),),
    ),
    "syntax": Case("javascript", "\nconsole.log(;\n", (error("main.js:2:;…", "SyntaxError"),)),
    "another module": Case(
        "javascript",
        "const m = require('./mod');\nm.go();\n",
        (error("mod.js:2:nix…", "ReferenceError: nix is not defined"),),
        {"mod.js": "exports.go = () => {\n  nix();\n};\n"},
    ),
    "the library threw": Case(
        "javascript",
        "const o = 1;\nJSON.parse('{x');\n",
        (error("main.js:2:parse…", "SyntaxError"),),
    ),
    "a module that is not there": Case(
        "javascript", "\nrequire('nix');\n", (error("main.js:2:require…", "Cannot find module"),)
    ),
    "thrown text": Case("javascript", "\nthrow 'text';\n", (error("main.js:2:throw…", "text"),)),
    "a promise": Case(
        "javascript",
        "\nPromise.reject(new Error('no'));\n",
        (error("main.js:2:new…", "Error: no"),),
    ),
    "a cause": Case(
        "javascript",
        "const e = new Error('outer', {cause: new TypeError('inner')});\nthrow e;\n",
        (error("main.js:2:throw…", "Error: outer"),),
    ),
    "a class of its own": Case(
        "javascript",
        "class My extends Error {}\n\tconst ä = '😀'; throw new My('hm');\n",
        (error("main.js:2:throw…", "hm"),),
    ),
    "an ECMAScript module": Case(
        "javascript",
        "import('./mod.mjs').then((m) => m.go());\n",
        (error("mod.mjs:2:nix…", "ReferenceError"),),
        {"mod.mjs": "export function go() {\n  nix();\n}\n"},
    ),
    "at a terminal": Case(
        "javascript", "\nnix();\n", (error("main.js:2:nix…", "Reference"),), tty=True
    ),
    "an error that is only shown": Case(
        "javascript", "console.error(new Error('only printed'));\n"
    ),
}

TYPESCRIPT = {
    "errors": Case(
        "typescript",
        "const n: number = 'a';\nfoo();\n\tconst ä = '😀'; const q: number = 'x';\n",
        (
            error("main.ts:1:n:…", "Type 'string'"),
            error("main.ts:2:foo…", "Cannot find name"),
            error("main.ts:3:q:…", "Type 'string'"),
        ),
    ),
    "another file": Case(
        "typescript",
        "import { f } from './lib/f';\nf(1);\n",
        (error("lib/f.ts:2:n:…", "Type 'string'"),),
        {"lib/f.ts": "export function f(a: number) {\n  const n: number = 'a';\n}\n"},
    ),
    "an exception": Case(
        "typescript",
        "interface A { b: number }\n\nfunction f(x: any): A {\n  return x.y.z;\n}\nf({});\n",
        (error("main.ts:4:z…", "TypeError"),),
    ),
}

GO = {
    "errors": Case(
        "go",
        'package main\n\nimport "os"\n\nfunc main() {\n\tx := 1\n\tfoo()\n'
        '\tä := "😀"; var y int = ä; _ = y\n}\n',
        (
            error('main.go:3:"…', "imported and not used"),
            error("main.go:6:x…", "declared"),
            error("main.go:7:foo…", "undefined: foo"),
            error("main.go:8:ä…", "cannot use"),
        ),
    ),
    "syntax": Case(
        "go", "package main\n\nfunc main() { 1 + }\n", (error("main.go:3:}…", "syntax error"),)
    ),
    "a package": Case(
        "go",
        'package main\n\nimport "nix/nix"\n\nfunc main() {}\n',
        (error('main.go:3:"…', "nix/nix"),),
    ),
    "a panic": Case(
        "go",
        "package main\n\nfunc f(a []int) int { return a[5] }\nfunc main() {\n\tprintln(f(nil))\n}\n",
        (error("main.go:3", "index out of range"),),
    ),
    "a panic in the library": Case(
        "go",
        'package main\n\nimport "strings"\n\nfunc main() {\n\tprintln(strings.Repeat("x", -1))\n}\n',
        (error("main.go:6", "negative Repeat count"),),
    ),
    "a panic while another is handled": Case(
        "go",
        'package main\n\nfunc main() {\n\tdefer func() {\n\t\trecover()\n\t\tpanic("again")\n\t}()\n'
        '\tpanic("first")\n}\n',
        (error("main.go:6", "again"),),
    ),
    "a deadlock": Case(
        "go",
        "package main\n\nfunc main() {\n\tc := make(chan int)\n\t<-c\n}\n",
        (error("main.go:5", "deadlock"),),
    ),
    "a package of the module": Case(
        "go",
        'package main\n\nimport "example.org/m/sub"\n\nfunc main() { sub.F() }\n',
        (error("sub/f.go:4:nix…", "undefined: nix"),),
        {
            "go.mod": "module example.org/m\n\ngo 1.19\n",
            "sub/f.go": "package sub\n\nfunc F() {\n\tnix()\n}\n",
        },
    ),
}

RUST = {
    "errors and warnings": Case(
        "rust",
        'fn main() {\n    let s = String::new();\n    let t = s;\n    println!("{}", s);\n}\n',
        (
            warning("main.rs:3:t…", "unused variable"),
            error("main.rs:4:s…", "borrow of moved value"),
        ),
    ),
    "a span": Case(
        "rust",
        'fn main() {\n    let _x: i32 = "a";\n}\n',
        (error('main.rs:2:"a"', "mismatched types"),),
    ),
    "another file": Case(
        "rust",
        "mod other;\nfn main() { other::f(); }\n",
        (error('other.rs:1:"a"', "mismatched types"),),
        {"other.rs": 'pub fn f() -> i32 { "a" }\n'},
    ),
    "characters of all sizes": Case(
        "rust",
        'fn main() {\n\tlet _ä = "😀"; let _y: i32 = "x";\n}\n',
        (error('main.rs:2:"x"', "mismatched types"),),
    ),
    "a panic": Case(
        "rust",
        'fn f(v: &[i32]) -> i32 { v[3] }\nfn main() {\n    println!("{}", f(&[1]));\n}\n',
        (error("main.rs:1:v[3…", "index out of bounds"),),
    ),
    "a panic in the library": Case(
        "rust",
        'fn main() {\n    let r: Result<i32, String> = Err("no".into());\n    r.unwrap();\n}\n',
        (error("main.rs:3:unwrap…", "no"),),
    ),
    "panics in threads": Case(
        "rust",
        'fn main() {\n    std::thread::spawn(|| panic!("in\\ntwo lines")).join().ok();\n'
        '    panic!("mine");\n}\n',
        (error("main.rs:2:panic…", "in"), error("main.rs:3:panic…", "mine")),
    ),
    "the linker": Case(
        "rust",
        'extern "C" { fn nix(); }\nfn main() {\n    unsafe { nix() }\n}\n',
        (error("main.rs:3:nix", "undefined reference"),),
    ),
}

RUBY = {
    "an exception": Case(
        "ruby", "def f(x)\n  x.foo\nend\nf(nil)\n", (error("main.rb:2:.foo", "undefined method"),)
    ),
    "syntax": Case("ruby", "def f\n  puts (\nend end\n", (error("main.rb:3:end", "syntax error"),)),
    "another file": Case(
        "ruby",
        "require_relative 'lib/helper'\nHelper.go\n",
        (error("lib/helper.rb:3:nix", "undefined local variable"),),
        {"lib/helper.rb": "module Helper\n  def self.go\n    nix\n  end\nend\n"},
    ),
    "the library raised": Case(
        "ruby", "\nrequire 'nix'\n", (error("main.rb:2", "cannot load such file"),)
    ),
    "a cause": Case(
        "ruby",
        "begin\n  1/0\nrescue => e\n  raise ArgumentError, 'outer'\nend\n",
        (
            error("main.rb:4 or main.rb:4:ArgumentError, 'outer'", "outer"),
            note("main.rb:2", "divided by 0"),
        ),
    ),
    "recursion": Case("ruby", "def f = f\nf\n", (error("main.rb:1", "stack level too deep"),)),
    "a message of several lines": Case(
        "ruby", "\nraise 'two\nlines'\n", (error("main.rb:2", "two"),)
    ),
    "a thread": Case(
        "ruby",
        "t = Thread.new { raise 'in thread' }\nbegin; t.join; rescue; end\nraise 'mine'\n",
        (error("main.rb:1", "in thread"), error("main.rb:3", "mine")),
    ),
    "characters of all sizes": Case(
        "ruby", "if true\n\tä = '😀'; ä.nix\nend\n", (error("main.rb:2", "undefined method"),)
    ),
    "at a terminal": Case("ruby", "\nnil.foo\n", (error("main.rb:2:.foo", "undefined"),), tty=True),
}

PHP = {
    "an exception": Case(
        "php",
        "<?php\nfunction f($x) {\n    return $x->foo();\n}\nf(null);\n",
        (error("main.php:3", "Call to a member function"),),
    ),
    "warnings before the end": Case(
        "php",
        "<?php\necho $undef;\necho intdiv(1, 0);\n",
        (warning("main.php:2", "Undefined variable"), error("main.php:3", "DivisionByZeroError")),
    ),
    "a warning": Case(
        "php", "<?php\n$a = [];\necho $a['x'];\n", (warning("main.php:3", "Undefined array key"),)
    ),
    "syntax": Case("php", "<?php\n\necho ;;(\n", (error("main.php:3", "syntax error"),)),
    "another file": Case(
        "php",
        "<?php require 'lib/helper.php'; helper();\n",
        (error("lib/helper.php:2", "undefined function nix()"),),
        {"lib/helper.php": "<?php\nfunction helper() { nix(); }\n"},
    ),
    "a chain": Case(
        "php",
        "<?php\ntry { throw new Exception('inner'); }\ncatch (Exception $e) {\n"
        '  throw new RuntimeException("two\nlines", 0, $e);\n}\n',
        (note("main.php:2", "Exception: inner"), error("main.php:4", "RuntimeException: two")),
    ),
}

OTHERS = {
    "perl: syntax": Case("perl", "\nprint ((;\n", (error("main.pl:2", 'syntax error: near "'),)),
    "perl: strict": Case(
        "perl", "use strict;\n$y = 2;\n", (error("main.pl:2", 'Global symbol "$y"'),)
    ),
    "perl: die": Case(
        "perl",
        "use warnings;\nmy $x; my $y = $x + 1;\nsub f { die 'bad' }\nf();\n",
        (warning("main.pl:2", "uninitialized"), error("main.pl:3", "bad")),
    ),
    "perl: a module": Case(
        "perl",
        "use lib '.'; require Helper; Helper::go();\n",
        (error("Helper.pm:2", "in helper"),),
        {"Helper.pm": "package Helper;\nsub go { die 'in helper' }\n1;\n"},
    ),
    "lua: an error": Case(
        "lua", "local x = nil\nprint(x.y)\n", (error("main.lua:2", "attempt to index"),)
    ),
    "lua: syntax": Case("lua", "\nx = = 1\n", (error("main.lua:2", "unexpected symbol"),)),
    "lua: another file": Case(
        "lua",
        "local h = require('helper')\nh.go()\n",
        (error("helper.lua:2", "attempt to call a nil value"),),
        {"helper.lua": "return { go = function()\n  nix()\nend }\n"},
    ),
    "lua: a table": Case("lua", "\nerror({})\n", (error("main.lua:2", "table value"),)),
    "bash: a command": Case(
        "bash", "f() {\n  nix\n}\nf\n", (error("main.sh:2", "nix: command not found"),)
    ),
    "bash: syntax": Case("bash", "\nif then\n", (error("main.sh:2", "syntax error near"),)),
    "bash: another file": Case(
        "bash", ". ./helper.sh\n", (error("helper.sh:2", "not found"),), {"helper.sh": "\nnix\n"}
    ),
    "bash: it goes on": Case("bash", "nix\nexit 0\n", (warning("main.sh:1", "not found"),)),
    "sql: syntax": Case("sql", "SELECT 1;\nSELEC 2;\n", (error("main.sql:2", "syntax error"),)),
    "sql: a constraint": Case(
        "sql",
        "CREATE TABLE t (a INT UNIQUE);\nINSERT INTO t VALUES (1);\nINSERT INTO t VALUES (1);\n",
        (error("main.sql:3", "UNIQUE constraint failed"),),
    ),
}

CASES = {
    f"{language}: {name}": case
    for language, cases in (
        ("python", PYTHON),
        ("c", C),
        ("cpp", CPP),
        ("java", JAVA),
        ("javascript", JAVASCRIPT),
        ("typescript", TYPESCRIPT),
        ("go", GO),
        ("rust", RUST),
        ("ruby", RUBY),
        ("php", PHP),
    )
    for name, case in cases.items()
} | OTHERS
LANGUAGES = sorted({case.language for case in CASES.values()})


@pytest.fixture(scope="module")
def asked(
    tmp_path_factory: pytest.TempPathFactory,
    serving_here: Callable[..., AbstractContextManager[Server]],
) -> list[dict[str, Any]]:
    """What the languages' tools say in each case. All run at once."""
    with (
        serving_here(tmp_path_factory.mktemp("problems") / "data") as server,
        ThreadPoolExecutor(8) as pool,
    ):
        languages = {
            each["id"]: each for each in server.get(f"{API}/languages").json()["languages"]
        }
        results = list(pool.map(lambda case: _result(server, case), CASES.values()))
    return [
        _asked(languages[case.language], case, result)
        for case, result in zip(CASES.values(), results, strict=True)
    ]


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_parser(tmp_path_factory.mktemp("parser"))


@pytest.fixture(scope="module")
def found(asked: list[dict[str, Any]], parser: Path) -> dict[str, Found]:
    return dict(zip(CASES, [each["problems"] for each in parse(parser, asked)], strict=True))


def _result(server: Server, case: Case) -> dict[str, Any]:
    fields: dict[str, Any] = {"compile_args": case.compile_args}
    if case.tty:
        fields["tty"] = {"rows": 24, "cols": 80}
    files = [{"name": name, "content": content} for name, content in case.files.items()]
    return server.run(case.source, language=case.language, files=files, **fields)


def _asked(language: dict[str, Any], case: Case, result: dict[str, Any]) -> dict[str, Any]:
    compiled, ran = result["compile"], result["run"]
    return {
        "patterns": language["problems"],
        "main": language["file_name"],
        "files": {language["file_name"]: case.source, **case.files},
        "renamed": language["flags"]["named_by_source"],
        "compile": compiled["stdout"] + compiled["stderr"] if compiled else "",
        "run": ran["stdout" if case.tty else "stderr"] if ran else "",
        "ok": result["verdict"] == "ok",
    }


@pytest.mark.parametrize("name", CASES)
def test_the_places_that_are_told_of_are_found(found: dict[str, Found], name: str) -> None:
    case, problems = CASES[name], found[name]
    told = [f"{each['severity']} {_place(case, each)} {each['message']}" for each in problems]
    assert len(problems) == len(case.expected), told
    for each, line, expected in zip(problems, told, case.expected, strict=True):
        assert _fits(case, each, expected), line


def _fits(case: Case, problem: dict[str, Any], expected: tuple[str, str, str]) -> bool:
    severity, places, message = expected
    if problem["severity"] != severity or message not in problem["message"]:
        return False
    found = _place(case, problem)
    return any(
        found.startswith(each.removesuffix("…")) if each.endswith((":", "…")) else found == each
        for each in places.split(" or ")
    )


def _place(case: Case, problem: dict[str, Any]) -> str:
    return place(problem, case.files.get(problem["file"], case.source))


OTHER_VERSIONS = {
    "python, wide characters of 3.13": (
        "python",
        "if 1:\n\ts = '世😀'; print(s.nix)\n",
        (
            'Traceback (most recent call last):\n  File "/box/main.py", line 2, in <module>\n'
            "    s = '世😀'; print(s.nix)\n                      ^^^^^\n"
            "AttributeError: 'str' object has no attribute 'nix'\n"
        ),
        error("main.py:2:s.nix", "AttributeError"),
    ),
    "c++, a template of GCC 14": (
        "cpp",
        "\n\nint main() {\n  std::list<int> l;\n  std::sort(l.begin(), l.end());\n}\n",
        (
            "/usr/include/c++/14/bits/stl_algo.h: In instantiation of ‘void std::__sort(_It)’:\n"
            "/usr/include/c++/14/bits/stl_algo.h:4772:18:   required from ‘void std::sort(_It)’\n"
            " 4772 |       std::__sort(__first);\n      |       ~~~~~~~~~~~^~~~~~~~~\n"
            "main.cpp:5:12:   required from here\n"
            "    5 |   std::sort(l.begin(), l.end());\n      |   ~~~~~~~~~^~~~~~~~~~~~~~~~~~~~\n"
            "/usr/include/c++/14/bits/stl_algo.h:1906:50: error: no match for ‘operator-’\n"
        ),
        error("main.cpp:5:(…", "no match for ‘operator-’"),
    ),
    "rust, panic since 1.73": (
        "rust",
        'fn main() {\n    panic!("mine");\n}\n',
        "\nthread 'main' panicked at main.rs:2:5:\nmine\nnote: run with `RUST_BACKTRACE=1`\n",
        error("main.rs:2:panic…", "mine"),
    ),
    "rust, panic since 1.91": (
        "rust",
        'fn main() {\n    panic!("mine");\n}\n',
        "\nthread 'main' (4711) panicked at main.rs:2:5:\nmine\n",
        error("main.rs:2:panic…", "mine"),
    ),
    "ruby, 2.7 at a terminal": (
        "ruby",
        "def f(x)\n  x.foo\nend\nf(nil)\n",
        (
            "Traceback (most recent call last):\n\t1: from main.rb:4:in `<main>'\n"
            "main.rb:2:in `f': undefined method `foo' for nil:NilClass (NoMethodError)\n"
        ),
        error("main.rb:2", "undefined method"),
    ),
    "ruby, exception of 3.4": (
        "ruby",
        "def f(x)\n  x.foo\nend\nf(nil)\n",
        (
            "main.rb:2:in 'Object#f': undefined method 'foo' for nil (NoMethodError)\n\n"
            "  x.foo\n   ^^^^\n\tfrom main.rb:4:in '<main>'\n"
        ),
        error("main.rb:2:.foo", "undefined method"),
    ),
    "ruby, syntax of 3.4": (
        "ruby",
        "x = 1\nif true\n",
        (
            "main.rb:2: syntax errors found (SyntaxError)\n  1 | x = 1\n> 2 | if true\n"
            "    |        ^ expected a newline or semicolon after the predicate\n"
        ),
        error("main.rb:2:…", "expected a newline"),
    ),
    "php, both logged": (
        "php",
        "<?php\nf();\n",
        (
            "PHP Fatal error:  Uncaught Error: Call to undefined function f() in /box/main.php:2\n"
            "Stack trace:\n#0 {main}\n  thrown in /box/main.php on line 2\n"
        ),
        error("main.php:2", "undefined function"),
    ),
    "sql, before 3.38": (
        "sql",
        "SELECT 1;\nSELEC 2;\n",
        'Error: near line 2: near "SELEC": syntax error\n',
        error("main.sql:2", "syntax error"),
    ),
}


@pytest.mark.parametrize("name", OTHER_VERSIONS)
def test_the_forms_of_versions_that_are_not_here(parser: Path, name: str) -> None:
    id, source, said, expected = OTHER_VERSIONS[name]
    language = load_languages()[id]
    asked = {
        "patterns": [each.json() for each in language.problems],
        "main": language.file_name,
        "files": {language.file_name: source},
        "renamed": False,
        "compile": said if id == "cpp" else "",
        "run": said if id != "cpp" else "",
        "ok": False,
    }
    (answer,) = parse(parser, [asked])
    (problem,) = answer["problems"]
    assert _fits(Case(id, source), problem, expected), problem


def test_no_text_takes_long(asked: list[dict[str, Any]], parser: Path) -> None:
    """Each line that a tool wrote, again and again: as lines, in one line of a megabyte, and between lines
    of others. A pattern that looked at a text in more and more ways would take seconds or hours."""
    hostile = []
    for language in LANGUAGES:
        own = [
            each
            for each, case in zip(asked, CASES.values(), strict=True)
            if case.language == language
        ]
        lines = [
            line for each in own for line in (each["compile"] + each["run"]).split("\n") if line
        ]
        shapes = list({re.sub(r"\d+|\w{9,}", "0", line): line for line in lines}.values())
        texts = [
            "\n".join(shapes * (300_000 // len("\n".join(shapes)) + 1)),
            *("".join([line, "\n"] * 6_000)[-262_144:] for line in shapes[:5]),
            *(line * (1_000_000 // len(line)) for line in shapes[:5]),
            "\n".join(line[: len(line) * 2 // 3] * 9 for line in shapes * 50),
            "a:1:" * 250_000,
            "a:1:\n" * 65_536,
            "\n" * 1_000_000,
        ]
        hostile += [own[0] | {"compile": text, "run": text} for text in texts]
    _take_not_long(parser, hostile)


LONG = {
    "algol68": [("", "111 " + " " * 900)],
    "common-lisp": [("", " READ error during (\n\n" + " " * 900)],
    "elvish": [
        ("", "Exception: a\n" + "/" * 900),
        ("", "Compilation error: a\n" + " " * 900),
    ],
    "fortran": [("", "At line 1 of file " + "a" * 900)],
    "livescript": [("", "Error: on line " + "1" * 900)],
    "maude": [("", 'Warning: "a", line ' + "1" * 900)],
    "pascal": [
        ("Runtime error 1 at $1\n", "  $A" + " " * 900),
        ("Runtime error 1 at $1\n", "  $A" + " line 1 of" * 90),
    ],
    "php": [
        ("", "Next " + "1" * 900),
        ("", "Next " + "a\\" * 450),
        ("", "PHP Deprecated: " + " " * 900),
    ],
}
"""Of languages whose patterns once took seconds or minutes for them: a text, and one that stands behind it
290 times."""


def test_no_text_that_once_took_long_does(parser: Path) -> None:
    languages = load_languages()
    hostile = []
    for id, texts in LONG.items():
        own = languages[id]
        for head, again in texts:
            text = head + f"{again}\n" * 290
            hostile.append(
                {
                    "patterns": [each.json() for each in own.problems],
                    "main": own.file_name,
                    "files": {own.file_name: "x\n"},
                    "renamed": False,
                    "compile": text,
                    "run": text,
                    "ok": False,
                }
            )
    _take_not_long(parser, hostile)


def _take_not_long(parser: Path, hostile: list[dict[str, Any]]) -> None:
    for each, asked_for in zip(parse(parser, hostile), hostile, strict=True):
        assert len(each["problems"]) <= 400
        assert each["cpu_ms"] < 400, asked_for["run"][:500]
