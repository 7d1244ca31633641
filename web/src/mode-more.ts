import { StreamLanguage, indentUnit } from '@codemirror/language'
import type { StreamParser } from '@codemirror/language'
import type { Extension } from '@codemirror/state'
import { chunk } from './chunk'
import { completes } from './completion'

const clike = () => chunk(import('@codemirror/legacy-modes/mode/clike'))
const mllike = () => chunk(import('@codemirror/legacy-modes/mode/mllike'))
const xml = () => chunk(import('@codemirror/legacy-modes/mode/xml'))

/** Modes that have no file of their own here: how to split the text is all that is known of the language. */
const parsers: Record<string, () => Promise<StreamParser<unknown>>> = {
  apl: async () => (await chunk(import('@codemirror/legacy-modes/mode/apl'))).apl,
  brainfuck: async () => (await chunk(import('@codemirror/legacy-modes/mode/brainfuck'))).brainfuck,
  clojure: async () => (await chunk(import('@codemirror/legacy-modes/mode/clojure'))).clojure,
  cmake: async () => (await chunk(import('@codemirror/legacy-modes/mode/cmake'))).cmake,
  cobol: async () => (await chunk(import('@codemirror/legacy-modes/mode/cobol'))).cobol,
  coffeescript: async () => (await chunk(import('@codemirror/legacy-modes/mode/coffeescript'))).coffeeScript,
  commonlisp: async () => (await chunk(import('@codemirror/legacy-modes/mode/commonlisp'))).commonLisp,
  crystal: async () => (await chunk(import('@codemirror/legacy-modes/mode/crystal'))).crystal,
  csharp: async () => (await clike()).csharp,
  css: async () => (await chunk(import('@codemirror/legacy-modes/mode/css'))).css,
  d: async () => (await chunk(import('@codemirror/legacy-modes/mode/d'))).d,
  dart: async () => (await clike()).dart,
  diff: async () => (await chunk(import('@codemirror/legacy-modes/mode/diff'))).diff,
  dockerfile: async () => (await chunk(import('@codemirror/legacy-modes/mode/dockerfile'))).dockerFile,
  dylan: async () => (await chunk(import('@codemirror/legacy-modes/mode/dylan'))).dylan,
  eiffel: async () => (await chunk(import('@codemirror/legacy-modes/mode/eiffel'))).eiffel,
  elixir: async () => (await chunk(import('./mode-elixir'))).elixir,
  elm: async () => (await chunk(import('@codemirror/legacy-modes/mode/elm'))).elm,
  erlang: async () => (await chunk(import('@codemirror/legacy-modes/mode/erlang'))).erlang,
  factor: async () => (await chunk(import('@codemirror/legacy-modes/mode/factor'))).factor,
  forth: async () => (await chunk(import('@codemirror/legacy-modes/mode/forth'))).forth,
  fortran: async () => (await chunk(import('@codemirror/legacy-modes/mode/fortran'))).fortran,
  fsharp: async () => (await mllike()).fSharp,
  gas: async () => (await chunk(import('@codemirror/legacy-modes/mode/gas'))).gas,
  groovy: async () => (await chunk(import('@codemirror/legacy-modes/mode/groovy'))).groovy,
  haskell: async () => (await chunk(import('@codemirror/legacy-modes/mode/haskell'))).haskell,
  haxe: async () => (await chunk(import('@codemirror/legacy-modes/mode/haxe'))).haxe,
  html: async () => (await xml()).html,
  idl: async () => (await chunk(import('@codemirror/legacy-modes/mode/idl'))).idl,
  julia: async () => (await chunk(import('@codemirror/legacy-modes/mode/julia'))).julia,
  kotlin: async () => (await clike()).kotlin,
  livescript: async () => (await chunk(import('@codemirror/legacy-modes/mode/livescript'))).liveScript,
  mathematica: async () => (await chunk(import('@codemirror/legacy-modes/mode/mathematica'))).mathematica,
  modelica: async () => (await chunk(import('@codemirror/legacy-modes/mode/modelica'))).modelica,
  mumps: async () => (await chunk(import('@codemirror/legacy-modes/mode/mumps'))).mumps,
  objectivec: async () => (await clike()).objectiveC,
  ocaml: async () => (await mllike()).oCaml,
  octave: async () => (await chunk(import('@codemirror/legacy-modes/mode/octave'))).octave,
  oz: async () => (await chunk(import('@codemirror/legacy-modes/mode/oz'))).oz,
  pascal: async () => (await chunk(import('@codemirror/legacy-modes/mode/pascal'))).pascal,
  powershell: async () => (await chunk(import('@codemirror/legacy-modes/mode/powershell'))).powerShell,
  properties: async () => (await chunk(import('@codemirror/legacy-modes/mode/properties'))).properties,
  q: async () => (await chunk(import('@codemirror/legacy-modes/mode/q'))).q,
  r: async () => (await chunk(import('@codemirror/legacy-modes/mode/r'))).r,
  scala: async () => (await clike()).scala,
  scheme: async () => (await chunk(import('@codemirror/legacy-modes/mode/scheme'))).scheme,
  smalltalk: async () => (await chunk(import('@codemirror/legacy-modes/mode/smalltalk'))).smalltalk,
  sml: async () => (await mllike()).sml,
  squirrel: async () => (await clike()).squirrel,
  swift: async () => (await chunk(import('@codemirror/legacy-modes/mode/swift'))).swift,
  tcl: async () => (await chunk(import('@codemirror/legacy-modes/mode/tcl'))).tcl,
  tex: async () => (await chunk(import('@codemirror/legacy-modes/mode/stex'))).stex,
  toml: async () => (await chunk(import('@codemirror/legacy-modes/mode/toml'))).toml,
  troff: async () => (await chunk(import('@codemirror/legacy-modes/mode/troff'))).troff,
  vb: async () => (await chunk(import('@codemirror/legacy-modes/mode/vb'))).vb,
  verilog: async () => (await chunk(import('@codemirror/legacy-modes/mode/verilog'))).verilog,
  vhdl: async () => (await chunk(import('@codemirror/legacy-modes/mode/vhdl'))).vhdl,
  wast: async () => (await chunk(import('@codemirror/legacy-modes/mode/wast'))).wast,
  xml: async () => (await xml()).xml,
  yacas: async () => (await chunk(import('@codemirror/legacy-modes/mode/yacas'))).yacas,
  yaml: async () => (await chunk(import('@codemirror/legacy-modes/mode/yaml'))).yaml,
}

const byTwo = new Set(
  'clojure coffeescript commonlisp crystal css dart dylan elixir groovy haskell html livescript ocaml octave oz pascal r scala scheme sml vhdl xml yaml'.split(' '),
)

/** Nothing for a mode that is not there: such a text is plain. */
export async function mode(name: string): Promise<Extension> {
  const parser = await parsers[name]?.()
  if (parser === undefined) return []
  const language = StreamLanguage.define(parser)
  return [language, completes(language, ''), byTwo.has(name) ? indentUnit.of('  ') : []]
}
