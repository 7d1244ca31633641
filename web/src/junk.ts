const folders = new Set(['.git', '.hg', '.svn', '.idea', '.vscode', '.venv', '__MACOSX', '__pycache__', 'node_modules'])
const files = new Set(['.DS_Store', 'Thumbs.db', 'desktop.ini'])

/** What systems and tools leave in folders, and nobody means to send. */
export function isJunk(path: string): boolean {
  const parts = path.split('/')
  return files.has(parts.pop() ?? '') || parts.some((part) => folders.has(part))
}
