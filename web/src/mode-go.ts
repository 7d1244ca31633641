export { go as mode } from '@codemirror/lang-go'
