export { cpp as mode } from '@codemirror/lang-cpp'
