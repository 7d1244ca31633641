// What the server and the page say to each other; the words are those of docs and /openapi.json.

import type { Pattern } from './problems'

export type Data = string | { base64: string }
export type StageName = 'compile' | 'run'
export type Stream = 'stdout' | 'stderr' | 'tty'

/** What a terminal shows at once, in characters. */
export interface Size {
  rows: number
  cols: number
}

export interface Language {
  id: string
  name: string
  /** The set that it belongs to. No test proves one that is only tried. */
  support: 'core' | 'popular' | 'more' | 'tried'
  /** The id of the default one of several implementations. */
  family: string | null
  implementation: string | null
  versions: string[]
  file_name: string
  /** What the names of its sources end in. */
  suffixes: string[]
  editor_mode: string
  example: string
  hello?: string
  example_stdin?: string
  aliases: string[]
  /** Arguments for the compiler that people often add. */
  compile_args: string[]
  flags: { compiled: boolean; named_by_source: boolean; reads_stdin: boolean }
  /** Whether the server can format its programs. */
  format: boolean
  /** Whether one may ask for a trace of its programs. */
  trace?: boolean
  limits: Limits
  problems: Pattern[]
}

export interface SentFile {
  name: string
  content: Data
  executable?: boolean
}

export type LimitName = 'cpu_time' | 'wall_time' | 'memory' | 'processes' | 'output' | 'file_size'
/** In seconds, bytes and pieces. */
export type Limits = Record<LimitName, number>

export interface Submission {
  language: string
  version?: string
  /** The main file, under its usual name; or all `files`. */
  source?: Data
  files?: SentFile[]
  stdin: string
  /** The program talks to a person at a terminal. Without it, `stdin` is all that it reads. */
  tty?: Size
  /** Patterns of the files that are kept. */
  artifacts?: string[]
  compile_args?: string[]
  args?: string[]
  env?: Record<string, string>
  limits?: Partial<Limits>
  /** The program is formatted instead of run. */
  format?: boolean
  /** The system calls of the program are listed. */
  trace?: boolean
}

/** What one may use, in pieces, seconds or bytes. */
export interface Quota {
  limit: number
  left: number
  frees_at: string | null
}

/** Who asks, and what is left, as `GET /me` has it. */
export interface Me {
  kind: 'person' | 'key' | 'anonymous' | 'nobody'
  name: string | null
  class: string | null
  scopes: string[]
  quotas: Record<string, Quota>
}

export interface Problem {
  type: string
  title: string
  status: number
  detail?: string | null
  retry_after?: number
  /** The one that is used up. */
  quota?: Quota & { name: string }
  errors?: { field: string; message: string }[]
}

/** How a stage ended. What it wrote came with the events `output`. */
export interface Outcome {
  exit_code: number | null
  signal: string | null
  limit: 'cpu_time' | 'wall_time' | 'memory' | 'output' | 'idle' | null
  stdout_truncated: boolean
  stderr_truncated: boolean
  cpu_time: number | null
  wall_time: number | null
  memory: number | null
  tty: boolean
}

/** A file that the program left. */
export interface Artifact {
  name: string
  bytes: number
  type: string
}

/** All system calls of one name that a program made. */
export interface CallCount {
  call: string
  count: number
  failed: number
  refused: number
  seconds: number
}

/** The system calls of a program. `ended` says why the list ends where it ends. */
export interface Trace {
  ended: string
  calls: number
  counts: CallCount[]
}

/** One of them. */
export interface Call {
  number: number
  process: number
  at: number
  seconds: number | null
  call: string
  arguments: string[]
  result: string | null
  error: string | null
  refused: boolean
}

export interface Result {
  id: string
  verdict: string
  message: string | null
  language: { id: string } | null
  compile: Outcome | null
  run: Outcome | null
  artifacts?: Artifact[]
  trace?: Trace | null
  attempts: number
}

export type Event =
  | { name: 'queued'; position: number | null; estimate_s: number | null }
  | { name: 'started'; attempt: number; version: string | null; node: string | null; wall_time: number | null; idle: number | null }
  | { name: 'stage'; stage: StageName; phase: 'start' | 'end'; outcome: Outcome | null }
  | { name: 'output'; stage: StageName; stream: Stream; data: Data }
  | { name: 'finished'; result: Result }

export type ServerFrame =
  | { type: 'accepted'; ref: string; id: string }
  | { type: 'done'; ref?: string; id: string }
  | { type: 'error'; ref?: string; id?: string; problem: Problem }
  | { type: 'event'; id: string; seq: number; time: string; event: Event }

export type ClientFrame =
  | { type: 'submit'; ref: string; idempotency_key: string; submission: Submission }
  | { type: 'subscribe'; ref: string; id: string; after: number }
  | { type: 'stdin'; ref: string; id: string; data: string; writer: string; offset: number }
  | ({ type: 'resize'; ref: string; id: string } & Size)
  | { type: 'cancel'; ref: string; id: string }

/** How busy nodes are. */
export interface Load {
  nodes: number
  slots: number
  slots_used: number
  seats: number
  seats_used: number
  /** Programs, by language. */
  running: Record<string, number>
}

export interface SeenNode {
  name: string
  roles: string[]
  /** It was heard lately. */
  live: boolean
  started_at: string | null
  seen_at: string
  running: number
  connections: number
  load: Load | null
}

/** What goes on in the server, as `GET /status` has it. Null is what did not answer. */
export interface Overview {
  ready: boolean
  problems: string[]
  at: string
  queue: { waiting: number; oldest_s: number | null } | null
  load: Load | null
  languages: { id: string; name: string; nodes: number }[] | null
  recent: { seconds: number; verdicts: Record<string, number>; started: number; half_within_s: number | null; most_within_s: number | null }
  history: { every_s: number; at: number[]; waiting: (number | null)[]; slots: number[]; slots_used: number[]; seats_used: number[]; ended: number[] }
  /** For administrators. */
  nodes?: SeenNode[]
  dead_letters?: number | null
}

export interface DeadLetter {
  id: string
  queue: string
  at: string | null
  bytes: number
  reason: string | null
}

/** The last part of a problem's type, whatever base address it is given under. */
export function kind(problem: Problem): string {
  return problem.type.split(/[/#:]/).pop() ?? ''
}
