import { StreamLanguage } from '@codemirror/language'
import { ruby } from '@codemirror/legacy-modes/mode/ruby'
import { completes } from './completion'

const keywords = `
  alias and attr_accessor attr_reader attr_writer begin break case class def defined? do else elsif end ensure
  extend false for if in include lambda loop module new next nil not or private proc protected public puts print
  gets raise redo require require_relative rescue retry return self super then true undef unless until when
  while yield each map select reject reduce inject each_with_index times upto chomp split join to_i to_s to_f
  to_a length size push pop first last
`

const language = StreamLanguage.define(ruby)

export const mode = () => [language, completes(language, keywords)]
