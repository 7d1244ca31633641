"""A program does here what it does by the ordinary command line of its language: the same output, exit code
and error text. What differs is named."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from sandboxed import Lab

pytestmark = pytest.mark.promise

STDIN = "3\nnaïve 日本\n"
ARGS = ("one two", "--version")


@dataclass(frozen=True)
class Ordinary:
    """`commands` are a shell's, with the binary as `$bin` and the arguments as `"$@"`. `good` reads and ends
    with exit code 3, `fails` ends by an exception, and `wrong` does not begin."""

    commands: str
    good: str
    fails: str
    wrong: str
    differs: Callable[[str], str] = str
    """Takes out of an error text what is known to differ."""


def _no_addresses(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+|\+0x[0-9a-f]+", "0x", text)


LANGUAGES = {
    "python": Ordinary(
        '''"$bin" main.py "$@"''',
        """
import sys
n = int(input())
print(n * 2, input(), sys.argv[1:])
print('to stderr', file=sys.stderr)
sys.exit(3)
""",
        """
def f(x):
    return {}[x]

print('before')
f('é')
""",
        """
print('never'
x = 1
""",
    ),
    "javascript": Ordinary(
        '''"$bin" main.js "$@"''',
        r"""
const [n, line] = require('fs').readFileSync(0, 'utf8').split('\n')
console.log(n * 2, line, process.argv.slice(2))
console.error('to stderr')
process.exit(3)
""",
        """
function f(x) {
  return x.missing.part
}
console.log('before')
f({})
""",
        """
console.log('never'
let x =
""",
    ),
    "java": Ordinary(
        '''"${bin%/java}/javac" Main.java && "$bin" Main "$@"''',
        """
import java.util.*;

public class Main {
    public static void main(String[] args) {
        Scanner in = new Scanner(System.in);
        int n = Integer.parseInt(in.nextLine());
        System.out.println(n * 2 + in.nextLine() + Arrays.toString(args));
        System.err.println("to stderr");
        System.exit(3);
    }
}
""",
        """
public class Main {
    static int f(int[] x) { return x[5]; }
    public static void main(String[] args) {
        System.out.println("before");
        f(new int[2]);
    }
}
""",
        """
public class Main {
    public static void main(String[] args) {
        int x = "é";
    }
}
""",
    ),
    "c": Ordinary(
        '''"$bin" -O2 -o main main.c && exec ./main "$@"''',
        r"""
#include <stdio.h>
int main(int argc, char **argv) {
  int n; char line[100];
  scanf("%d ", &n); fgets(line, 100, stdin);
  printf("%d %s%s %s\n", n * 2, line, argv[1], argv[2]);
  fprintf(stderr, "to stderr\n");
  return 3;
}
""",
        """
#include <stdio.h>
#include <stdlib.h>
int main(void) { puts("before"); fflush(stdout); abort(); }
""",
        """
#include <stdio.h>
int main(void) {
  int x = "é";
  return y;
}
""",
    ),
    "cpp": Ordinary(
        '''"$bin" -O2 -o main main.cpp && exec ./main "$@"''',
        r"""
#include <iostream>
#include <string>
int main(int argc, char **argv) {
  int n; std::string line;
  std::cin >> n >> std::ws; std::getline(std::cin, line);
  std::cout << n * 2 << line << argv[1] << argv[2] << "\n";
  std::cerr << "to stderr\n";
  return 3;
}
""",
        """
#include <iostream>
#include <vector>
int main() {
  std::cout << "before" << std::endl;
  std::vector<int> v; return v.at(3);
}
""",
        """
#include <string>
int main() {
  std::string s = 5;
  return "é";
}
""",
    ),
    "go": Ordinary(
        '''export GOCACHE=$PWD/../go GOFLAGS=-mod=mod GO111MODULE=off GOTELEMETRY=off CGO_ENABLED=0
"$bin" build -o main main.go && exec ./main "$@"''',
        r"""
package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	var n int
	in := bufio.NewReader(os.Stdin)
	fmt.Fscanln(in, &n)
	line, _ := in.ReadString('\n')
	fmt.Print(n*2, line, os.Args[1:], "\n")
	fmt.Fprintln(os.Stderr, "to stderr")
	os.Exit(3)
}
""",
        """
package main

import "fmt"

func main() {
	fmt.Println("before")
	var m map[string]int
	m["é"] = 1
}
""",
        """
package main

import "os"

func main() {
	x := "é" + 1
}
""",
        _no_addresses,
    ),
    "rust": Ordinary(
        '''"$bin" -o main main.rs && exec ./main "$@"''',
        """
use std::io::{self, BufRead};

fn main() {
    let lines: Vec<String> = io::stdin().lock().lines().map(|l| l.unwrap()).collect();
    let n: i32 = lines[0].parse().unwrap();
    let args: Vec<String> = std::env::args().skip(1).collect();
    println!("{} {} {:?}", n * 2, lines[1], args);
    eprintln!("to stderr");
    std::process::exit(3);
}
""",
        """
fn main() {
    println!("before");
    let v: Vec<i32> = Vec::new();
    let n: usize = "5".parse().unwrap();
    println!("{}", v[n]);
}
""",
        """
fn main() {
    let x: i32 = "é";
    println!("{}", y);
}
""",
    ),
    "php": Ordinary(
        '''"$bin" -d display_errors=stderr -d log_errors=0 main.php "$@"''',
        r"""
<?php
$n = (int) fgets(STDIN);
echo $n * 2, fgets(STDIN), implode('|', array_slice($argv, 1)), "\n";
fwrite(STDERR, "to stderr\n");
exit(3);
""",
        r"""
<?php
function f(array $x) { return $x['é']->part(); }
echo "before\n";
f(['é' => null]);
""",
        """
<?php
echo 'never'
$x = 1;
""",
    ),
    "ruby": Ordinary(
        '''"$bin" main.rb "$@"''',
        """
n = $stdin.gets.to_i
puts "#{n * 2} #{$stdin.gets.chomp} #{ARGV}"
warn 'to stderr'
exit 3
""",
        """
def f(x)
  x.fetch(:é)
end
puts 'before'
$stdout.flush
f({})
""",
        """
puts 'never'
def f(
""",
    ),
    "typescript": Ordinary(
        '''"$bin" --target es2022 --lib es2022 --module nodenext --noEmitOnError \
    --pretty false --inlineSourceMap \
    main.ts && node --enable-source-maps main.js "$@"''',
        """
declare const console: { log(...x: unknown[]): void; error(x: string): void }
declare const process: { argv: string[]; exit(code: number): never }
const all: string[] = process.argv.slice(2)
console.log(all.length * 2, all)
console.error('to stderr')
process.exit(3)
""",
        """
declare const console: { log(...x: unknown[]): void }
function f(x: { part?: { n: number } }): number {
  return x.part!.n
}
console.log('before')
f({})
""",
        """
const x: number = 'é'
let y: string = x +
""",
    ),
}


def ordinary(folder: Path, binary: str, commands: str, name: str, source: str) -> Sequence[object]:
    (folder / name).write_text(source)
    ended = subprocess.run(
        ["/bin/sh", "-c", commands, "sh", *ARGS],
        cwd=folder,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "bin": binary,
            "HOME": "/tmp",
        },
        input=STDIN.encode(),
        capture_output=True,
    )
    said = ended.stdout.decode(), ended.stderr.decode().replace(os.fspath(folder), "/box")
    return ended.returncode, *said


@pytest.mark.parametrize("kind", ["good", "fails", "wrong"])
@pytest.mark.parametrize("name", LANGUAGES)
async def test_it_is_as_by_the_command_line(lab: Lab, name: str, kind: str, tmp_path: Path) -> None:
    here = LANGUAGES[name]
    source = str(getattr(here, kind)).lstrip()
    language, binary = lab.language(name)
    ran = await lab.program(name, source, stdin=STDIN, args=ARGS)
    expected = await trio.to_thread.run_sync(
        ordinary, tmp_path, binary, here.commands, language.file_name, source
    )
    last = ran[-1]
    number = -signal.Signals[last.signal] if last.signal else last.exit_code
    stdout, stderr = (
        b"".join(each) for each in zip(*((r.stdout, r.stderr) for r in ran), strict=True)
    )
    assert (number, stdout.decode(), here.differs(stderr.decode())) == (
        expected[0], expected[1], here.differs(str(expected[2])),
    )  # fmt: skip
