import { simpleMode } from '@codemirror/legacy-modes/mode/simple-mode'

const keywords =
  /(?:after|alias|and|case|catch|cond|def(?:callback|delegate|exception|guardp?|impl|macrop?|module|overridable|p|protocol|struct)?|do|else|end|fn|for|if|import|in|not|or|quote|raise|receive|require|rescue|reraise|throw|try|unless|unquote|use|when|with)(?![\w?!:])/

export const elixir = simpleMode({
  start: [
    { regex: /#.*/, token: 'comment' },
    { regex: /(?:@(?:module|type|short)?doc\s+)?(?:~[sScC])?"""/, token: 'string', push: 'text' },
    { regex: /~[a-zA-Z]+(?:\/(?:[^/\\]|\\.)*\/|\((?:[^)\\]|\\.)*\)|\[(?:[^\]\\]|\\.)*\]|\{(?:[^}\\]|\\.)*\}|"(?:[^"\\]|\\.)*"|\|(?:[^|\\]|\\.)*\|)[a-z]*/, token: 'string' },
    { regex: /"/, token: 'string', push: 'line' },
    { regex: /'(?:[^'\\]|\\.)*'/, token: 'string' },
    { regex: /:(?:"(?:[^"\\]|\\.)*"|[a-z_]\w*[?!]?)/i, token: 'atom' },
    { regex: /[a-z_]\w*[?!]?:(?!:)/i, token: 'atom' },
    { regex: /@[a-z_]\w*/, token: 'meta' },
    { regex: /(?:true|false|nil)\b/, token: 'atom' },
    { regex: /(?:do|fn)(?![\w?!:])/, token: 'keyword', indent: true },
    { regex: /end(?![\w?!:])/, token: 'keyword', dedent: true },
    { regex: keywords, token: 'keyword' },
    { regex: /0x[\da-f_]+|0b[01_]+|0o[0-7_]+|\?\\?.|\d[\d_]*(?:\.\d[\d_]*(?:e[-+]?\d+)?)?/i, token: 'number' },
    { regex: /[A-Z]\w*/, token: 'type' },
    { regex: /[a-z_]\w*[?!]?(?=\()/, token: () => 'variableName.function' },
    { regex: /[a-z_]\w*[?!]?/, token: 'variableName' },
    { regex: /[-+*/<>=!&|^~.]+/, token: 'operator' },
    { regex: /[{[(]/, indent: true },
    { regex: /[}\])]/, dedent: true },
  ],
  line: [
    { regex: /"/, token: 'string', pop: true },
    { regex: /#\{[^}]*\}|\\./, token: 'escape' },
    { regex: /[^"\\#]+|#/, token: 'string' },
  ],
  text: [
    { regex: /"""/, token: 'string', pop: true },
    { regex: /#\{[^}]*\}|\\./, token: 'escape' },
    { regex: /[^"\\#]+|["#]/, token: 'string' },
  ],
  languageData: {
    name: 'elixir',
    commentTokens: { line: '#' },
    closeBrackets: { brackets: ['(', '[', '{', "'", '"', '"""'] },
    indentOnInput: /^\s*(?:end|else|rescue|catch|after|[}\])])$/,
    dontIndentStates: ['line', 'text'],
  },
})
