import { javaLanguage } from '@codemirror/lang-java'
import { completes } from './completion'

const keywords = `
  abstract assert boolean break byte case catch char class const continue default do double else enum extends
  final finally float for if implements import instanceof int interface long native new package permits private
  protected public record return sealed short static strictfp super switch synchronized this throw throws
  transient try var void volatile while yield true false null String Integer Long Double Boolean Character Math
  System Object List ArrayList Map HashMap TreeMap Set HashSet Deque ArrayDeque PriorityQueue Arrays Collections
  Scanner StringBuilder Optional Stream Collectors Exception RuntimeException Override println printf main args
  length
`

export const mode = () => [javaLanguage, completes(javaLanguage, keywords)]
