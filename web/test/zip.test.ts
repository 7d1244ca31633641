import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deflateRawSync } from 'node:zlib'
import { crc32 } from '../src/crc32'
import type { File } from '../src/program'
import { ZipError, unzip } from '../src/unzip'
import { zip } from '../src/zip'

const most = 8 * 2 ** 20

interface Part {
  name: string | Uint8Array
  content?: Uint8Array
  mode?: number
  host?: number
  flags?: number
  method?: number
  /** What the directory says instead of the truth. */
  size?: number
  crc?: number
  at?: number
  packed?: number
  extra?: Uint8Array
}

const le = (size: number, n: number) => {
  const out = new Uint8Array(size)
  for (let at = 0; at < size; at++) out[at] = Math.floor(n / 256 ** at) % 256
  return out
}
const join = (...parts: Uint8Array[]): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.concat(parts))
const utf8 = (text: string) => new TextEncoder().encode(text)

/** A zip as it is not made by honest tools. */
function crafted(parts: Part[], { count = parts.length, comment = '', zip64 = false } = {}): Blob {
  const bodies: Uint8Array<ArrayBuffer>[] = []
  const directory: Uint8Array[] = []
  let at = 0
  for (const part of parts) {
    const name = typeof part.name === 'string' ? utf8(part.name) : part.name
    const content = part.content ?? utf8('x')
    const method = part.method ?? 8
    const packed = method === 8 ? new Uint8Array(deflateRawSync(content)) : content
    const body = join(le(4, 0x04034b50), le(22, 0), le(2, name.length), le(2, 0), name, packed)
    const extra = part.extra ?? new Uint8Array()
    const sum = part.crc ?? crc32(content)
    const sizes = [le(4, part.packed ?? packed.length), le(4, part.size ?? content.length)]
    const lengths = [le(2, name.length), le(2, extra.length), le(2, 0), le(2, 0), le(2, 0)]
    const mode = le(4, (part.mode ?? 0o100644) * 65536)
    const head = [le(4, 0x02014b50), le(1, 20), le(1, part.host ?? 3), le(2, 20), le(2, part.flags ?? 0), le(2, method), le(4, 0), le(4, sum)]
    directory.push(join(...head, ...sizes, ...lengths, mode, le(4, part.at ?? at), name, extra))
    bodies.push(body)
    at += body.length
  }
  const all = join(...directory)
  const end64 = join(le(4, 0x06064b50), le(8, 44), le(2, 45), le(2, 45), le(8, 0), le(8, count), le(8, count), le(8, all.length), le(8, at))
  const locator = join(le(4, 0x07064b50), le(4, 0), le(8, at + all.length), le(4, 1))
  const short = zip64 ? [le(4, 0xffffffff), le(4, 0xffffffff), le(4, 0xffffffff)] : [join(le(2, count), le(2, count)), le(4, all.length), le(4, at)]
  const end = join(le(4, 0x06054b50), le(4, 0), ...short, le(2, comment.length), utf8(comment))
  return new Blob([...bodies, all, ...(zip64 ? [end64, locator] : []), end])
}

const names = async (zip: Blob) => (await unzip(zip, most)).files.map(({ name }) => name)
const refused = (zip: Blob, fault: string, n = 0) =>
  assert.rejects(unzip(zip, most), (error: unknown) => error instanceof ZipError && error.fault === fault && error.n === n)

test('what goes into a zip comes out of it', async () => {
  const noise = Buffer.from(Uint32Array.from({ length: 70_000 }, (_, n) => Math.imul(n, 2654435761)).buffer)
  const files: File[] = [
    { name: 'main.py', content: 'print("é")\n' },
    { name: 'src/run.sh', content: '#!/bin/sh\n', executable: true },
    { name: 'Größe.bin', content: { base64: noise.toString('base64') } },
    { name: 'empty', content: '' },
    { name: 'bom.txt', content: '\ufeffa\r\nb' },
  ]
  assert.deepEqual(await unzip(await zip(files), most), { files, leftOut: [] })
})

test('what leads out of the folder, is a link, a second time there or locked is left out and told', async () => {
  const { files, leftOut } = await unzip(
    crafted([
      { name: 'a.py' },
      { name: '../b' },
      { name: '/etc/c' },
      { name: 'C:\\d' },
      { name: 'link', content: utf8('/etc/passwd'), mode: 0o120777 },
      { name: 'a.py', content: utf8('y') },
      { name: 'a.py/e' },
      { name: 'locked', flags: 1 },
      { name: 'lzma', method: 14 },
      { name: 'tab\t' },
      { name: '-rf' },
      { name: 'folder/' },
      { name: 'folder2', mode: 0o040755 },
      { name: '__MACOSX/._a.py' },
      { name: 'p/.git/config' },
      { name: 'src\\f.py', host: 0 },
    ]),
    most,
  )
  assert.deepEqual(files, [
    { name: 'a.py', content: 'x' },
    { name: 'src/f.py', content: 'x' },
  ])
  assert.deepEqual(
    leftOut.map(({ name, why }) => `${name} ${why}`),
    ['../b path', '/etc/c path', 'C:/d path', 'link link', 'a.py twice', 'locked password', 'lzma packing', 'tab\t name', '-rf name', 'a.py/e twice'],
  )
  await refused(crafted([{ name: 'a', flags: 1 }]), 'zip_password')
  await refused(crafted([]), 'zip_empty')
})

test('a bomb is refused by what it says of itself, before anything of it is unpacked', async () => {
  const zeros = new Uint8Array(most)
  await refused(crafted([{ name: 'a', content: zeros }, { name: 'b' }]), 'zip_large', most + 1)
  await refused(crafted([{ name: 'a', size: 0xfffffffe }]), 'zip_large', 0xfffffffe)
  // Many entries over the same bytes.
  await refused(crafted(Array.from({ length: 9 }, (_, n) => ({ name: `${n}`, content: zeros.subarray(0, 2 ** 20), at: 0 }))), 'zip_large', 9 * 2 ** 20)
  await refused(crafted(Array.from({ length: 202 }, (_, n) => ({ name: `${n}` }))), 'zip_many', 202)
  await refused(crafted([{ name: 'a' }], { count: 1_000_000, zip64: true }), 'zip_many', 1_000_000)
})

test('a bomb that lies about its size is damaged, after the size that it said', async () => {
  await refused(crafted([{ name: 'a', content: new Uint8Array(50 * 2 ** 20), size: 1000 }]), 'zip_damaged')
  await refused(crafted([{ name: 'a', content: new Uint8Array(1000), size: 2000 }]), 'zip_damaged')
  await refused(crafted([{ name: 'a', size: 100, packed: 5000 }]), 'zip_damaged')
})

test('a long directory is read between other things', async (context) => {
  const long = crafted(Array.from({ length: 5_000 }, (_, n) => ({ name: `d/${n}`, method: 0 })))
  let time = performance.now()
  context.mock.method(performance, 'now', () => (time += 100))
  let turns = 0
  const other = setInterval(() => turns++, 0)
  await refused(long, 'zip_many', 5_000)
  clearInterval(other)
  assert.ok(turns > 5, `${turns}`)
})

test('a zip in a zip stays one file', async () => {
  const inner = new Uint8Array(await crafted([{ name: 'a', content: new Uint8Array(10 * 2 ** 20) }]).arrayBuffer())
  assert.deepEqual(await names(crafted([{ name: 'main.py' }, { name: 'inner.zip', content: inner }])), ['main.py', 'inner.zip'])
})

test('names are UTF-8, or what MS-DOS had', async () => {
  const dos = Uint8Array.from([0x84, 0x2e, 0x70, 0x79])
  assert.deepEqual(await names(crafted([{ name: 'ä.py' }, { name: dos }])), ['ä.py'])
  assert.deepEqual(await names(crafted([{ name: dos, flags: 0x800 }, { name: 'b' }])), ['ä.py', 'b'])
})

test('a large zip in the new form is a zip, too', async () => {
  const extra = join(le(2, 0x9999), le(2, 1), le(1, 0), le(2, 1), le(2, 16), le(8, 1), le(8, 3))
  assert.deepEqual(await names(crafted([{ name: 'a', size: 0xffffffff, packed: 0xffffffff, extra }], { zip64: true })), ['a'])
  await refused(crafted([{ name: 'a', size: 0xffffffff, extra: extra.subarray(0, 9) }]), 'zip_large', 0xffffffff)
  await refused(crafted([{ name: 'a', size: 0xffffffff, extra: join(le(2, 1), le(2, 0)) }]), 'zip_damaged')
  const huge = join(le(2, 1), le(2, 8), le(8, 2 ** 60))
  await refused(crafted([{ name: 'a', size: 0xffffffff, extra: huge }]), 'zip_large', 2 ** 60)
})

test('whatever is cut off or changed, a zip is read or refused', async () => {
  const whole = new Uint8Array(await crafted([{ name: 'a.py', content: utf8('print(1)\n'.repeat(20)) }, { name: 'b' }], { comment: 'hello' }).arrayBuffer())
  assert.deepEqual(await names(new Blob([whole])), ['a.py', 'b'])
  for (let size = 0; size < whole.length; size++) {
    const cut = await unzip(new Blob([whole.subarray(0, size)]), most).catch((error: unknown) => error)
    // Without its comment a zip is as good.
    assert.ok(cut instanceof ZipError || size >= whole.length - 5, `${size}`)
  }
  for (let at = 0; at < whole.length; at++) {
    for (const value of [0, 255, (whole[at] ?? 0) ^ 1]) {
      const changed = Uint8Array.from(whole)
      changed[at] = value
      const read = await unzip(new Blob([changed]), most).catch((error: unknown) => error)
      assert.ok(read instanceof ZipError || 'files' in (read as object), `${at}: ${String(read)}`)
    }
  }
  await refused(crafted([{ name: 'a', crc: 1 }]), 'zip_damaged')
  await refused(new Blob(['no zip at all']), 'zip_damaged')
})
