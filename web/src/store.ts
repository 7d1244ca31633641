// What the page remembers. Storage can be switched off, full, or forbidden; then it remembers until
// the page is closed.

const prefix = 'occd:'

export interface Store {
  get(key: string): string | null
  /** False when the browser does not keep it: then it is remembered until the page is closed. */
  set(key: string, value: string | null): boolean
  /** The keys that begin so, without this beginning. */
  keys(beginning: string): string[]
  /** False in a browser that keeps nothing at all. */
  works(): boolean
  /** Tells of keys that another tab has set; null stands for all of them. */
  watch(changed: (key: string | null) => void): void
}

export function openStore(storage: () => Storage): Store {
  const kept = new Map<string, string | null>()
  return {
    get(key) {
      const value = kept.get(key)
      if (value !== undefined) return value
      try {
        return storage().getItem(prefix + key)
      } catch {
        return null
      }
    },
    set(key, value) {
      try {
        if (value === null) storage().removeItem(prefix + key)
        else storage().setItem(prefix + key, value)
        kept.delete(key)
        return true
      } catch {
        kept.set(key, value)
        return false
      }
    },
    keys(beginning) {
      try {
        const all = Array.from({ length: storage().length }, (_, at) => storage().key(at) ?? '')
        return all.filter((key) => key.startsWith(prefix + beginning)).map((key) => key.slice((prefix + beginning).length))
      } catch {
        return []
      }
    },
    works() {
      try {
        return storage().length > 0 || storage().setItem(`${prefix}probe`, '') === undefined
      } catch {
        return false
      }
    },
    watch(changed) {
      addEventListener('storage', ({ key, storageArea }) => {
        if (storageArea !== storage()) return
        if (key !== null && !key.startsWith(prefix)) return
        const name = key?.slice(prefix.length) ?? null
        if (name !== null) kept.delete(name)
        changed(name)
      })
    },
  }
}

/** Survives the browser: drafts and choices. */
export const store = openStore(() => localStorage)

/** Survives a reload of this tab: the submission that it follows, and work that all tabs together do not keep. */
export const tab = openStore(() => sessionStorage)
