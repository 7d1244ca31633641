import { SQLite, keywordCompletionSource } from '@codemirror/lang-sql'
import { completes } from './completion'

export const mode = () => [SQLite.language, completes(SQLite.language, '', [keywordCompletionSource(SQLite)])]
