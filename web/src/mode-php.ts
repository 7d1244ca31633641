import { phpLanguage } from '@codemirror/lang-php'
import { LanguageSupport } from '@codemirror/language'

// Without the HTML around it, which would bring three more grammars.
export const mode = () => new LanguageSupport(phpLanguage)
