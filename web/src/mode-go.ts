import { goLanguage, localCompletionSource } from '@codemirror/lang-go'
import { completes } from './completion'

const keywords = `
  break case chan const continue default defer else fallthrough for func go goto if import interface map package
  range return select struct switch type var append cap clear close complex copy delete imag len make max min
  new panic print println real recover bool byte complex64 complex128 error float32 float64 int int8 int16 int32
  int64 rune string uint uint8 uint16 uint32 uint64 uintptr any comparable true false iota nil fmt Println
  Printf Sprintf Errorf bufio os strings strconv sort errors time sync
`

export const mode = () => [goLanguage, completes(goLanguage, keywords, [localCompletionSource])]
