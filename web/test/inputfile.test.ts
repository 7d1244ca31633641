import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withInput, withoutInput } from '../src/inputfile'
import type { File } from '../src/program'

const files = (...names: string[]): File[] => names.map((name) => ({ name, content: `of ${name}` }))

test('the input lies beside the files and comes back, whatever they are called', () => {
  const cases: [File[], string, string | null][] = [
    [files('main.py'), 'in', 'stdin.txt'],
    [files('main.py', 'input.txt'), 'in', 'stdin.txt'],
    [files('main.py'), '', null],
    [files('main.py', 'stdin.txt'), 'in', 'stdin_2.txt'],
    [files('main.py', 'stdin.txt'), '', 'stdin_2.txt'],
    [files('main.py', 'stdin.txt', 'stdin_2.txt'), 'in', 'stdin_3.txt'],
    [files('main.py', 'stdin_2.txt'), 'in', 'stdin_3.txt'],
    [files('main.py', 'stdin_0.txt', 'stdin_02.txt', 'stdin_.txt'), 'in', 'stdin.txt'],
    [files('main.py', 'stdin.txt/a'), '', 'stdin_2.txt'],
    [files('main.py', 'a/stdin.txt'), 'in', 'stdin.txt'],
    [[...files('main.py'), { name: 'stdin.txt', content: { base64: '/w==' } }], 'in', 'stdin_2.txt'],
  ]
  for (const [own, stdin, name] of cases) {
    const all = withInput(own, stdin)
    assert.deepEqual(all.slice(own.length).map((file) => file.name), name === null ? [] : [name])
    assert.deepEqual(withoutInput(all), { files: own, stdin: name === null ? null : stdin })
  }
})

test('what is no text or a folder is no input', () => {
  const binary: File[] = [{ name: 'stdin.txt', content: { base64: '/w==' } }]
  assert.deepEqual(withoutInput(binary), { files: binary, stdin: null })
  assert.deepEqual(withoutInput(files('stdin.txt/a')), { files: files('stdin.txt/a'), stdin: null })
  assert.equal(withoutInput([{ name: 'stdin.txt', content: 'a\r\nb' }]).stdin, 'a\nb')
})
