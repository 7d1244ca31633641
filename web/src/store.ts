// What the page remembers. Storage can be switched off, full, or forbidden; then it remembers until
// the page is closed.

const prefix = 'occd:'

export interface Store {
  /** All of it survives. */
  readonly whole: boolean
  get(key: string): string | null
  set(key: string, value: string | null): void
  /** Tells of keys that another tab has set; null stands for all of them. */
  watch(changed: (key: string | null) => void): void
}

export function openStore(storage: () => Storage): Store {
  const kept = new Map<string, string | null>()
  return {
    get whole() {
      return kept.size === 0
    },
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
      } catch {
        kept.set(key, value)
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

/** Survives a reload of this tab: the submission it follows. */
export const tab = openStore(() => sessionStorage)
