/** Volumes: made, filled from outside, had by two sandboxes at once, and removed when nobody has them. */

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { check, sdk } from './bed.js'

const { Volume } = sdk

async function withVolume(body: (volume: any) => Promise<void>): Promise<void> {
  const volume = await Volume.create(`test-${randomUUID()}`)
  try {
    await body(volume)
  } finally {
    await Volume.destroy(volume.volumeId)
  }
}

check('a volume comes and goes', async ({ skip }) => {
  if (!Volume) skip('this version has no Volume')
  const name = `test-${randomUUID()}`
  const made = await Volume.create(name)
  const info = await Volume.getInfo(made.volumeId)
  assert.deepEqual([info.volumeId, info.name, info.token], [made.volumeId, name, made.token])
  assert.ok((await Volume.list()).some((one: any) => one.volumeId === made.volumeId))
  assert.equal((await Volume.connect(made.volumeId)).name, name)
  await assert.rejects(Volume.create(name), /another volume/)
  assert.equal(await Volume.destroy(made.volumeId), true)
  assert.equal(await Volume.destroy(made.volumeId), false)
  await assert.rejects(Volume.getInfo(made.volumeId), /not found/i)
})

check('files of a volume without a sandbox', async ({ skip }) => {
  if (!Volume) skip('this version has no Volume')
  await withVolume(async (volume) => {
    const folder = await volume.makeDir('/a', { mode: 0o750 })
    assert.deepEqual([folder.name, folder.path, folder.type, folder.mode & 0o777], ['a', '/a', 'directory', 0o750])
    await assert.rejects(volume.makeDir('/x/y'), /not found/i)
    await volume.makeDir('/x/y', { force: true })
    assert.equal((await volume.writeFile('/a/text', 'text')).size, 4)
    await volume.writeFile('/a/blob', new Blob(['blob']))
    await volume.writeFile('/a/stream', new Blob(['stream'.repeat(100_000)]).stream())
    assert.equal(await volume.readFile('/a/text'), 'text')
    assert.equal(Buffer.from(await volume.readFile('/a/blob', { format: 'bytes' })).toString(), 'blob')
    assert.equal(await (await volume.readFile('/a/blob', { format: 'blob' })).text(), 'blob')
    const stream = await volume.readFile('/a/stream', { format: 'stream' })
    assert.equal(await new Response(stream).text(), 'stream'.repeat(100_000))
    const paths = (await volume.list('/', { depth: 2 })).map((one: any) => one.path)
    assert.deepEqual(paths, ['/a', '/a/blob', '/a/stream', '/a/text', '/x', '/x/y'])
    assert.equal((await volume.updateMetadata('/a/text', { mode: 0o640 })).mode & 0o777, 0o640)
    assert.equal((await volume.getInfo('/a/text')).size, 4)
    assert.equal(await volume.exists('/a/text'), true)
    await volume.remove('/a')
    assert.equal(await volume.exists('/a/text'), false)
    await assert.rejects(volume.readFile('/a/text'), /not found/i)
  })
})

check('two sandboxes have one volume', async ({ make, skip }) => {
  if (!Volume) skip('this version has no Volume')
  await withVolume(async (volume) => {
    await volume.writeFile('/from-outside', 'outside')
    const one = await make({ volumeMounts: { '/mnt/data': volume } })
    const other = await make({ volumeMounts: { '/mnt/other': volume.name } })
    assert.equal(await one.files.read('/mnt/data/from-outside'), 'outside')
    await one.commands.run('echo inside > /mnt/data/from-inside')
    assert.equal(await other.files.read('/mnt/other/from-inside'), 'inside\n')
    assert.equal(await volume.readFile('/from-inside'), 'inside\n')
    await assert.rejects(Volume.destroy(volume.volumeId), /in use/)
    await one.kill()
    await other.kill()
  })
})
