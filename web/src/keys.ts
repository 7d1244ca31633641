import { say } from './say'

export const mac = /Mac|iPhone|iPad/.test(navigator.platform)

/** As it stands on a button. */
export const runKey = `${mac ? '⌘' : say('key_ctrl')} ⏎`
/** As it stands in a sentence. */
export const runKeyName = mac ? '⌘-⏎' : `${say('key_ctrl')}-Enter`
