import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { test } from 'node:test'
import { ensureSyntaxTree, indentUnit } from '@codemirror/language'
import { EditorState } from '@codemirror/state'
import { highlightTree, tagHighlighter, tags } from '@lezer/highlight'
import { loadMode, modeOf } from '../src/modes'

const folder = '../sandbox/languages/'
const files = readdirSync(folder).filter((name) => name.endsWith('.toml'))
/** What nearly every program has. */
const coloured = tagHighlighter([tags.keyword, tags.string, tags.number, tags.comment, tags.typeName, tags.standard(tags.variableName)].map((tag) => ({ tag, class: 'x' })))

function pieces(state: EditorState): number {
  let n = 0
  const tree = ensureSyntaxTree(state, state.doc.length, 5_000)
  assert.ok(tree)
  highlightTree(tree, coloured, () => n++)
  return n
}

test('the page has the editor mode of each language', async () => {
  assert.ok(files.length >= 38)
  for (const file of files) {
    const text = readFileSync(folder + file, 'utf8')
    const mode = /^editor_mode = "(.*)"$/m.exec(text)?.[1]
    assert.ok(mode, file)
    const doc = /^example = (?:'''|""")(.*?)(?:'''|""")$/ms.exec(text)?.[1] ?? /^example = (.*)$/m.exec(text)?.[1]
    assert.ok(doc, file)
    const state = EditorState.create({ doc, extensions: [await loadMode(mode)] })
    if (mode !== 'plain') assert.ok(pieces(state) >= 2, `${file}: the page does not know ${mode}`)
  }
})

test('a mode that is not there is plain', async () => {
  const state = EditorState.create({ doc: 'if "x" then 1', extensions: [await loadMode('klingon')] })
  assert.equal(ensureSyntaxTree(state, state.doc.length)?.length ?? 0, 0)
})

test('a file has the mode of its suffix', () => {
  const languages = [{ suffixes: ['.ml'], editor_mode: 'ocaml' }]
  const modes = ['main.ml', 'data.yml', 'a/page.html', 'data.json', 'data.txt', 'Makefile']
  assert.deepEqual(modes.map((name) => modeOf(name, languages)), ['ocaml', 'yaml', 'html', 'javascript', 'plain', 'plain'])
})

test('a language is indented as its people do', async () => {
  const unit = async (mode: string) => EditorState.create({ extensions: [await loadMode(mode)] }).facet(indentUnit)
  assert.deepEqual(await Promise.all(['python', 'go', 'ruby', 'elixir', 'ocaml', 'csharp'].map(unit)), ['    ', '\t', '  ', '  ', '  ', '    '])
})
