/** As of a browser, with room for so many characters. */
export function storage(room = Infinity): Storage {
  const kept = new Map<string, string>()
  return {
    get length() {
      return kept.size
    },
    key: (at: number) => [...kept.keys()][at] ?? null,
    getItem: (key: string) => kept.get(key) ?? null,
    setItem(key: string, value: string) {
      const others = [...kept].filter(([each]) => each !== key)
      if (others.reduce((sum, [name, text]) => sum + name.length + text.length, key.length + value.length) > room) throw new Error('full')
      kept.set(key, value)
    },
    removeItem: (key: string) => void kept.delete(key),
  } as unknown as Storage
}
