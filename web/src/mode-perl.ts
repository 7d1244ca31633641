import { StreamLanguage } from '@codemirror/language'
import { perl } from '@codemirror/legacy-modes/mode/perl'
import { completes } from './completion'

const keywords = `
  and chomp chop chr close cmp continue defined delete die do each else elsif eof eq eval exists exit for
  foreach ge grep gt if join keys last lc le length local lt map my ne next no not open or ord our package pop
  print printf push qw ref require return reverse scalar shift sort splice split sprintf strict sub substr uc
  undef unless unshift until use values wantarray warn warnings while
`

const language = StreamLanguage.define(perl)

export const mode = () => [language, completes(language, keywords)]
