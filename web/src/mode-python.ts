import { globalCompletion, localCompletionSource, pythonLanguage } from '@codemirror/lang-python'
import { completes } from './completion'

/** Beside the built-in names, which `globalCompletion` has. */
const words = `
  and as assert async await break case class continue def del elif else except finally for from global if import in is
  lambda match nonlocal not or pass raise return try while with yield self cls append extend items keys values split join
  strip replace startswith endswith lower upper format
`

export const mode = () => [pythonLanguage, completes(pythonLanguage, words, [localCompletionSource, globalCompletion])]
