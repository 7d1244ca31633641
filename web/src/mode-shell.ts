import { StreamLanguage } from '@codemirror/language'
import { shell } from '@codemirror/legacy-modes/mode/shell'
import { completes } from './completion'

const keywords = `
  alias break case cd continue declare do done echo elif else esac eval exec exit export false fi for function
  getopts if in local printf read readonly return select set shift source test then time trap true type unset
  until while awk cat cut grep head sed seq sort tail tr uniq wc
`

const language = StreamLanguage.define(shell)

export const mode = () => [language, completes(language, keywords)]
