"""The modes of the page's editor, which colour programs: `web/src/modes.ts` and `mode-more.ts`."""

MODES = """
apl brainfuck c clojure cmake cobol coffeescript commonlisp cpp crystal csharp css d dart diff
dockerfile dylan eiffel elixir elm erlang factor forth fortran fsharp gas go groovy haskell haxe
html idl java javascript julia kotlin livescript lua mathematica modelica mumps objectivec ocaml
octave oz pascal perl php plain powershell properties python q r ruby rust scala scheme shell
smalltalk sml sql squirrel swift tcl tex toml troff typescript vb verilog vhdl wast xml yacas
yaml
""".split()  # noqa: SIM905 - a name a line would be 76 lines
