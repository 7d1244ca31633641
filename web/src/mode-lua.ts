import { StreamLanguage } from '@codemirror/language'
import { lua } from '@codemirror/legacy-modes/mode/lua'
import { completes } from './completion'

const keywords = `
  and break do else elseif end false for function goto if in local nil not or repeat return then true until
  while print pairs ipairs tostring tonumber type error assert pcall select setmetatable getmetatable require
  string table math io os insert remove concat format match gmatch gsub floor read write lines
`

const language = StreamLanguage.define(lua)

export const mode = () => [language, completes(language, keywords)]
