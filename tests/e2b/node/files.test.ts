/** Files: contents, entries, owners, signed addresses, watching. */

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { check, sdk, until } from './bed.js'

check('text, bytes, blobs and streams', async ({ make }) => {
  const { files } = await make()
  const text = 'ä line\n'.repeat(1000)
  const written = await files.write('notes/today.txt', text)
  assert.deepEqual([written.path, written.name], ['/home/user/notes/today.txt', 'today.txt'])
  assert.equal(await files.read('~/notes/today.txt'), text)
  assert.equal(Buffer.from(await files.read('notes/today.txt', { format: 'bytes' })).toString(), text)
  assert.equal(await (await files.read('notes/today.txt', { format: 'blob' })).text(), text)
  assert.equal(await new Response(await files.read('notes/today.txt', { format: 'stream' })).text(), text)
  const data = randomBytes(4 << 20)
  await files.write('/tmp/bytes', new Blob([data]))
  assert.ok(data.equals(Buffer.from(await files.read('/tmp/bytes', { format: 'bytes' }))))
  await files.write('/tmp/bytes', new Blob(['streamed']).stream())
  assert.equal(await files.read('/tmp/bytes'), 'streamed')
})

check('an empty file', async ({ make }) => {
  const { files } = await make()
  await files.write('empty', '')
  assert.equal(await files.read('empty'), '')
  assert.equal((await files.read('empty', { format: 'bytes' })).length, 0)
})

check('many at once', async ({ make }) => {
  const { files } = await make()
  const many = Array.from({ length: 20 }, (_, n) => ({ path: `/tmp/many/${n}/file`, data: `${n}` }))
  assert.deepEqual((await files.write(many)).map((one: any) => one.path), many.map((one) => one.path))
  if (files.writeFiles) await files.writeFiles(many)
  assert.equal(await files.read('/tmp/many/7/file'), '7')
})

check('what is missing is not found', async ({ make }) => {
  const { files } = await make()
  for (const call of ['read', 'getInfo', 'list']) await assert.rejects(files[call]('/no/such/file'), sdk.NotFoundError)
  await assert.rejects(files.rename('/no/such/file', '/tmp/x'), sdk.NotFoundError)
  assert.equal(await files.exists('/no/such/file'), false)
})

check('folders and entries', async ({ make }) => {
  const { files } = await make()
  assert.equal(await files.makeDir('a/b/c'), true)
  assert.equal(await files.makeDir('a/b/c'), false)
  await files.write('a/b/one', '1')
  await files.write('a/two', '22')
  const paths = async (depth: number) => (await files.list('a', { depth })).map((entry: any) => entry.path).sort()
  assert.deepEqual(await paths(1), ['/home/user/a/b', '/home/user/a/two'])
  assert.deepEqual(await paths(3), ['b', 'b/c', 'b/one', 'two'].map((name) => `/home/user/a/${name}`))
  const moved = await files.rename('a/two', 'new/three')
  assert.equal(moved.path, '/home/user/new/three')
  const info = await files.getInfo('new/three')
  assert.deepEqual([info.size, info.owner, info.type, info.permissions], [2, 'user', 'file', '-rw-r--r--'])
  assert.ok(Math.abs(info.modifiedTime.getTime() - Date.now()) < 60_000)
  await files.remove('a')
  assert.equal(await files.exists('a'), false)
})

check('belong to who writes them', async ({ make }) => {
  const { files } = await make()
  await files.write('deep/his', 'x', { user: 'root' })
  assert.equal((await files.getInfo('/root/deep/his', { user: 'root' })).owner, 'root')
})

check('signed addresses', async ({ make }) => {
  const sandbox = await make()
  const form = new FormData()
  form.append('file', new Blob(['from outside']), 'page.txt')
  const up = await sandbox.uploadUrl('/home/user/page.txt')
  assert.equal((await fetch(up, { method: 'POST', body: form })).status, 200)
  const down = await sandbox.downloadUrl('page.txt', { user: 'user', useSignatureExpiration: 60 })
  assert.equal(await (await fetch(down)).text(), 'from outside')
  const wrong = await fetch(down.replace('signature=v1_', 'signature=v1_A'))
  assert.ok([401, 502].includes(wrong.status))
})

check('signs what the server checks', async ({ make }) => {
  const sandbox = await make()
  await sandbox.files.write('/tmp/signed', 'yes')
  const token = sandbox.envdAccessToken
  const { signature } = await sdk.getSignature({ path: '/tmp/signed', operation: 'read', user: undefined, envdAccessToken: token })
  const query = new URLSearchParams({ path: '/tmp/signed', signature })
  assert.equal(await (await fetch(`${process.env.SKERRY_URL}/files?${query}`)).text(), 'yes')
})

check('watches a folder', async ({ make }) => {
  const { files, commands } = await make()
  await files.makeDir('/tmp/watched/in')
  const seen = new Set<string>()
  const watch = await files.watchDir('/tmp/watched', (event: any) => seen.add(`${event.type} ${event.name}`), { recursive: true })
  await files.write('/tmp/watched/in/deep', 'x')
  await until('it is told', () => seen.has('create in/deep') && seen.has('write in/deep'))
  await commands.run('cd /tmp/watched && chmod 600 in/deep && mv in/deep old && rm old')
  await until('it is told', () => seen.has('chmod in/deep') && seen.has('rename in/deep') && seen.has('remove old'))
  await watch.stop()
  await assert.rejects(files.watchDir('/no/such/folder', () => {}), sdk.NotFoundError)
})
