import { javascript } from '@codemirror/lang-javascript'

export const mode = (typescript: boolean) => javascript({ typescript })
