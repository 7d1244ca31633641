// Reads what programs wrote and prints what is found in it, for tests/languages/test_places.py.
import { readFileSync } from 'node:fs'
import { newFinder, survived } from '../src/problems'
import type { Pattern, Stage } from '../src/problems'
import { plainText } from '../src/text'

interface Case {
  patterns: Pattern[]
  main: string
  files: Record<string, string>
  renamed: boolean
  compile: string
  run: string
  ok: boolean
}

const cases = JSON.parse(readFileSync(0, 'utf8')) as Case[]
const found = cases.map(({ patterns, main, files, renamed, compile, run, ok }) => {
  const find = newFinder(patterns)
  const sources = { main, files: new Map(Object.entries(files)), renamed }
  const look = (stage: Stage, text: string) => find(stage, text, sources)
  const text = plainText(run)
  const before = process.cpuUsage()
  const problems = [...look('compile', compile), ...look('run', text)]
  const { user, system } = process.cpuUsage(before)
  return { problems: ok ? survived(problems) : problems, cpu_ms: (user + system) / 1000 }
})
console.log(JSON.stringify(found))
