import { SQLite, sql } from '@codemirror/lang-sql'

export const mode = () => sql({ dialect: SQLite })
