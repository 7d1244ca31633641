import { completeAnyWord, completeFromList } from '@codemirror/autocomplete'
import type { CompletionContext, CompletionResult, CompletionSource } from '@codemirror/autocomplete'
import { syntaxTree } from '@codemirror/language'
import type { Language } from '@codemirror/language'
import type { Extension } from '@codemirror/state'

/** What a language offers to complete: the words of the text, the language's keywords, and its own sources. */
export function completes(language: Language, keywords: string, sources: readonly CompletionSource[] = []): Extension {
  const list = completeFromList((keywords.match(/\S+/g) ?? []).map((label) => ({ label })))
  return [list, anyWord, ...sources].map((source) => language.data.of({ autocomplete: quiet(source) }))
}

/** Without a type, so that a word which another source has, too, is offered once. */
async function anyWord(context: CompletionContext): Promise<CompletionResult | null> {
  const found = await completeAnyWord(context)
  return found && { ...found, options: found.options.map(({ label }) => ({ label })) }
}

/** While somebody types, only from the second letter of a word on, and not within texts and comments. */
const quiet = (source: CompletionSource): CompletionSource => (context) =>
  context.explicit || (beginsWord(context) && !isProse(context)) ? source(context) : null

const beginsWord = (context: CompletionContext): boolean => context.matchBefore(/[\p{L}_$][\p{L}\p{N}_$]+/u) !== null

function isProse({ state, pos }: CompletionContext): boolean {
  for (let node: Node = syntaxTree(state).resolveInner(pos, -1); node !== null; node = node.parent) {
    if (/interpolation|replacement|expression/i.test(node.name)) return false
    if (/comment|string|charliteral|^char$|regexp|heredoc/i.test(node.name)) return true
  }
  return false
}

type Node = ReturnType<ReturnType<typeof syntaxTree>['resolveInner']> | null
