// Bundles src/ into ../static, or into the folder after --out. CI builds again and compares, so the same sources must give the same
// bytes under the same names. A chunk is therefore named after what it holds, and its content hash
// goes into the query, where it still defeats stale caches.
import * as esbuild from 'esbuild'
import { createHash } from 'node:crypto'
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

const here = fileURLToPath(new URL('.', import.meta.url))
const out = option('--out') ?? join(here, '../static')
const testOut = join(here, 'node_modules/.occd-test')

function option(name) {
  const at = process.argv.indexOf(name)
  return at === -1 ? undefined : process.argv[at + 1]
}

// xterm 6 puts style elements and style attributes into the page, which a strict policy forbids. So its elements
// get the page's nonce, and its attributes are set as properties. Of each there must be as many as was seen. The
// third is a fault of xterm's: inverse text without a colour is held against the colour that its background has.
// And xterm does what an escape sequence says as often as the sequence says, up to 2147483647 times: now at most as
// often as there are rows or columns, and 1000 characters. A cell takes accents without end, for which a browser's
// layout takes the square of their number: now at most 32.
// Each option that is set, what is typed taken or not for one, makes it write its style sheets anew: now only those on
// which they depend. And of what is there for screen readers it measures each row after it has changed one, so that the
// page is laid out as often as there are rows: now all rows are measured at once, when what is seen has been drawn.
const changes = [
  [3, /([\w.]+)\.createElement\("style"\)/g, 'Object.assign($1.createElement("style"),{nonce:document.querySelector("script[nonce]").nonce})'],
  [1, /(\w+)\.setAttribute\("style",`\$\{\1\.getAttribute\("style"\)\|\|""\}\$\{(\w+)\};`\)/g, '$1.style.cssText+=$2'],
  [1, /(\w+)\.foreground((?:,\w+){3}\)\|\|(\w+)&&)/g, '($3?$1.background:$1.foreground)$2'],
  [10, /let (\w+)=(\w+)\.params\[0\]\|\|1;/g, 'let $1=Math.min($2.params[0]||1,Math.max(this._bufferService.rows,this._bufferService.cols));'],
  [1, /new Uint32Array\((\w+)\.length\*(\w+)\)/g, 'new Uint32Array($1.length*($2=Math.min($2,Math.ceil(1e3/$1.length))))'],
  [2, /onOptionChange\(\(\)=>this\._handleOptionsChanged\(\)\)/g, 'onOptionChange(t=>/^(disableStdin|screenReaderMode)$/.test(t)||this._handleOptionsChanged())'],
  [
    1,
    /_alignRowWidth\((\w+)\)\{\1\.style\.transform="";let (\w+)=\1\.getBoundingClientRect\(\)\.width,(\w+)=(.+?);if\(!\3\)return;let (\w+)=(.+?);(\1\.style\.transform=`.+?`)\}/g,
    '_alignRowWidth($1){this._unaligned||(this._unaligned=new Set,setTimeout(()=>{let a=[...this._unaligned];this._unaligned=void 0;for(let $1 of a)$1.style.transform="";let w=a.map($1=>$1.getBoundingClientRect().width);a.forEach(($1,t)=>{let $2=w[t],$3=$4;if(!$3)return;let $5=$6;$7})})),this._unaligned.add($1)}',
  ],
  [1, /\?(this\._combined\[\w+\])(\+=\w+\(\w+\)):/g, '?$1.length<32&&($1$2):'],
]

const changedXterm = {
  name: 'changed-xterm',
  setup(build) {
    build.onLoad({ filter: /@xterm[/]xterm[/]lib[/]xterm\.mjs$/ }, async ({ path }) => {
      let contents = await readFile(path, 'utf8')
      for (const [times, found, instead] of changes) {
        if (contents.match(found)?.length !== times) throw new Error(`xterm has changed: ${found}`)
        contents = contents.replace(found, instead)
      }
      return { contents, loader: 'js' }
    })
  },
}

// The package calls its own registrations of keys and commands pure, so that a bundler leaves them out.
const registrations = /\/\*@__PURE__\*\/(?=EmacsHandler\.(bindKey|addCommands)\()/g

const wholeEmacs = {
  name: 'whole-emacs',
  setup(build) {
    build.onLoad({ filter: /@replit[/]codemirror-emacs[/]dist[/]index\.js$/ }, async ({ path }) => {
      const text = await readFile(path, 'utf8')
      if (text.match(registrations)?.length !== 2) throw new Error('codemirror-emacs has changed')
      return { contents: text.replace(registrations, ''), loader: 'js' }
    })
  },
}

/** Each page has only its own words. `overview_…` are those of the page of the server's status. */
const wordsOf = (has) => ({
  name: 'words',
  setup(build) {
    build.onLoad({ filter: /templates[/]words\.json$/ }, async ({ path }) => {
      const words = Object.entries(JSON.parse(await readFile(path, 'utf8')))
      return { contents: JSON.stringify(Object.fromEntries(words.filter(([key]) => has(key)))), loader: 'json' }
    })
  },
})

const ofOverview = (key) => key.startsWith('overview_')

const common = {
  absWorkingDir: here,
  bundle: true,
  format: 'esm',
  target: 'es2022',
  charset: 'utf8',
  logLevel: 'warning',
}

const page = {
  ...common,
  entryPoints: ['src/app.ts', 'src/app.css', 'src/favicon.svg'],
  outdir: out,
  loader: { '.svg': 'copy' },
  entryNames: '[name]',
  chunkNames: '[name]~[hash]',
  splitting: true,
  minify: true,
  legalComments: 'none',
  metafile: true,
  write: false,
  plugins: [changedXterm, wholeEmacs, wordsOf((key) => !ofOverview(key))],
}

/** A page of its own, which needs little. */
const overview = {
  ...common,
  entryPoints: ['src/overview.ts', 'src/overview.css'],
  outdir: out,
  minify: true,
  legalComments: 'none',
  metafile: true,
  write: false,
  plugins: [wordsOf((key) => ofOverview(key) || key === 'server_answered')],
}

/** Runs before the page is drawn: a plain script, with all that it needs. */
const early = {
  ...common,
  entryPoints: ['src/early.ts'],
  outdir: out,
  format: 'iife',
  minify: true,
  legalComments: 'none',
  metafile: true,
  write: false,
}

/** app.js, mode-python.js …; shared chunks are called after the biggest package in them. */
function stableName(path, { inputs, entryPoint }) {
  const name = basename(path)
  const [stem, hash] = name.split('~')
  if (hash === undefined) return name
  if (stem !== 'chunk') return entryPoint?.includes('/legacy-modes/') ? `mode-${stem}.js` : `${stem}.js`
  const [biggest] = Object.entries(inputs).sort(([, a], [, b]) => b.bytesInOutput - a.bytesInOutput)
  const source = biggest[0].replace(/^.*node_modules\//, '')
  const named = source.match(/^@([^/]+)\/([^/]+)/)
  return `chunk-${named ? `${named[1]}-${named[2]}` : basename(source).replace(/\.\w+$/, '')}.js`
}

/** What the page needs at once lies in few files: a browser asks a server for six at a time. So the chunks of our own
 * that app.js imports become one, in which each name has its chunk's number before it. */
async function gathered({ outputFiles, metafile }) {
  const outputs = new Map(Object.entries(metafile.outputs).map(([path, output]) => [basename(path), output]))
  const files = new Map(outputFiles.map((file) => [basename(file.path), file]))
  const needed = new Set()
  const need = (name) => {
    for (const { path, kind } of outputs.get(name).imports) {
      const chunk = basename(path)
      if (kind !== 'import-statement' || needed.has(chunk)) continue
      needed.add(chunk)
      need(chunk)
    }
  }
  need('app.js')
  const own = [...needed].filter((name) => Object.keys(outputs.get(name).inputs).every((path) => path.startsWith('src/') || path.startsWith('../')))
  const renames = (name, list) => list.split(',').map((each) => `_${own.indexOf(name)}${each.includes(' as ') ? each : `${each} as ${each}`}`).join()
  const redirected = (text, to) =>
    text
      .replace(/\bimport\{([^{}]*)\}from"\.\/(chunk~\w+\.js)"/g, (all, list, name) => (own.includes(name) ? `import{${renames(name, list)}}from"./${to}"` : all))
      .replace(/\bimport"\.\/(chunk~\w+\.js)"/g, (all, name) => (own.includes(name) ? `import"./${to}"` : all))
  const all = own.map((name, number) => `export {${outputs.get(name).exports.map((each) => `${each} as _${number}${each}`)}} from './${name}'`)
  const { outputFiles: [whole], metafile: made } = await esbuild.build({
    ...common,
    stdin: { contents: all.join('\n') },
    minify: true,
    legalComments: 'none',
    metafile: true,
    write: false,
    plugins: [
      {
        name: 'chunks',
        setup(build) {
          build.onResolve({ filter: /^\.\// }, ({ path }) => (own.includes(basename(path)) ? { path, namespace: 'chunk' } : { path, external: true }))
          build.onLoad({ filter: /./, namespace: 'chunk' }, ({ path }) => ({ contents: files.get(basename(path)).text }))
        },
      },
    ],
  })
  const shared = `shared~${createHash('sha256').update(whole.text).digest('hex').slice(0, 8).toUpperCase()}.js`
  const kept = outputFiles.filter((file) => !own.includes(basename(file.path)))
  return {
    outputFiles: [
      ...kept.map((file) => (file.path.endsWith('.js') ? { path: file.path, text: redirected(file.text, shared) } : file)),
      { path: shared, text: whole.text },
    ],
    metafile: {
      inputs: metafile.inputs,
      outputs: Object.fromEntries([
        ...Object.entries(metafile.outputs).filter(([path]) => !own.includes(basename(path))),
        [shared, Object.values(made.outputs)[0]],
      ]),
    },
  }
}

function renamed({ outputFiles, metafile }) {
  const names = new Map()
  for (const [path, output] of Object.entries(metafile.outputs)) {
    const name = stableName(path, output)
    if ([...names.values()].includes(name)) throw new Error(`two outputs would be called ${name}`)
    names.set(basename(path), name)
  }
  return outputFiles.map((file) => {
    const name = names.get(basename(file.path))
    if (!name.endsWith('.js')) return [name, file.contents]
    const text = file.text.replace(/[\w-]+~(\w+)\.js/g, (old, hash) => `${names.get(old)}?v=${hash}`)
    return [name, Buffer.from(text)]
  })
}

/** The notices that the bundled packages' licences want to be kept with copies. */
async function notices({ metafile }) {
  const packages = Object.keys(metafile.inputs).map((path) => path.match(/^node_modules\/(@[^/]+\/[^/]+|[^/]+)/)?.[1])
  const texts = [...new Set(packages.filter(Boolean))].sort().map(async (name) => {
    return `${name}\n\n${await readFile(join(here, 'node_modules', name, 'LICENSE'), 'utf8')}`
  })
  return Buffer.from((await Promise.all(texts)).join('\n\n----\n\n'))
}

async function emit(result) {
  const others = await Promise.all([early, overview].map((each) => esbuild.build(each)))
  const files = [...renamed(await gathered(result)), ...others.flatMap(renamed), ['third-party.txt', await notices(result)]]
  await mkdir(out, { recursive: true })
  // Only what a build makes is removed: static/ may hold other files.
  for (const name of await readdir(out)) {
    if (/^((app|early|overview|shared|palette|terminal|incoming|opening|unzip|zip|assist|formatting|optionsdialog|keys-.*|chunk-.*|mode-.*)\.js|(app|overview)\.css)$/.test(name)) await rm(join(out, name))
  }
  for (const [name, contents] of files) await writeFile(join(out, name), contents)
  const sizes = files.map(([name, c]) => [name, c.length, gzipSync(c).length]).sort((a, b) => b[2] - a[2])
  for (const [name, raw, gz] of sizes) console.log(`${name.padEnd(32)} ${kb(raw)} ${kb(gz)} gz`)
  console.log(`${'total'.padEnd(32)} ${kb(sum(sizes, 1))} ${kb(sum(sizes, 2))} gz`)
}

const kb = (n) => `${(n / 1000).toFixed(1).padStart(7)} kB`
const sum = (rows, i) => rows.reduce((total, row) => total + row[i], 0)

if (process.argv.includes('--test')) {
  const tests = (await readdir(join(here, 'test'))).filter((name) => name.endsWith('.test.ts'))
  await rm(testOut, { recursive: true, force: true })
  await esbuild.build({
    ...common,
    entryPoints: tests.map((name) => `test/${name}`),
    outdir: testOut,
    outExtension: { '.js': '.mjs' },
    platform: 'node',
  })
} else if (process.argv.includes('--watch')) {
  const context = await esbuild.context({
    ...page,
    plugins: [...page.plugins, { name: 'emit', setup: (build) => build.onEnd((r) => (r.errors.length ? undefined : emit(r))) }],
  })
  await context.watch()
} else {
  await emit(await esbuild.build(page))
}
