import { phpLanguage } from '@codemirror/lang-php'
import { completes } from './completion'

const keywords = `
  abstract and array as break callable case catch class clone const continue declare default do echo else elseif
  empty enum extends final finally fn for foreach function global if implements include instanceof interface
  isset list match namespace new null or print private protected public readonly require require_once return
  static switch this throw trait try unset use var while xor yield true false int float string bool mixed void
  count strlen str_replace substr explode implode array_map array_filter array_keys array_values in_array sort
  usort printf sprintf fgets intval
`

// Without the HTML around it, which would bring three more grammars.
export const mode = () => [phpLanguage, completes(phpLanguage, keywords)]
