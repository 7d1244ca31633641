import { javascriptLanguage, localCompletionSource, typescriptLanguage } from '@codemirror/lang-javascript'
import { completes } from './completion'

const javascript = `
  async await break case catch class const continue debugger default delete do else export extends false finally
  for from function get if import in instanceof let new null of return set static super switch this throw true
  try typeof undefined var void while with yield console log Array Object String Number Boolean Map Set WeakMap
  Promise Math JSON Date RegExp Error Symbol BigInt parseInt parseFloat isNaN require process length push pop
  map filter reduce forEach includes indexOf slice splice split join sort keys values entries
`

const typescript = `
  abstract any as asserts bigint boolean declare enum implements infer interface is keyof module namespace never
  number object override private protected public readonly satisfies string symbol type unique unknown Partial
  Required Readonly Record Pick Omit Exclude Extract NonNullable ReturnType Parameters
`

export function mode(typed: boolean) {
  const language = typed ? typescriptLanguage : javascriptLanguage
  return [language, completes(language, typed ? javascript + typescript : javascript, [localCompletionSource])]
}
