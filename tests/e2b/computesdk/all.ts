/** ComputeSDK's provider. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { e2b } from '@computesdk/e2b'

test('a sandbox from begin to end', { timeout: 90_000 }, async () => {
  const provider = e2b({ apiKey: process.env.E2B_API_KEY }) as any
  const sandbox = await provider.sandbox.create({ templateId: 'base', metadata: { by: 'computesdk' } })
  try {
    const done = await sandbox.runCommand('echo out; echo err >&2; exit 3')
    assert.deepEqual([done.stdout, done.stderr, done.exitCode], ['out\n', 'err\n', 3])
    const there = await sandbox.runCommand('pwd; echo $A', { cwd: '/tmp', env: { A: 'b' } })
    assert.equal(there.stdout.split('\n')[0], '/tmp')
    await sandbox.filesystem.mkdir('/home/user/folder')
    await sandbox.filesystem.writeFile('/home/user/folder/file', 'text')
    assert.equal(await sandbox.filesystem.readFile('/home/user/folder/file'), 'text')
    assert.deepEqual((await sandbox.filesystem.readdir('/home/user/folder')).map((one: any) => one.name), ['file'])
    await sandbox.filesystem.remove('/home/user/folder/file')
    assert.equal(await sandbox.filesystem.exists('/home/user/folder/file'), false)
    assert.ok((await provider.sandbox.list()).some((one: any) => one.sandboxId === sandbox.sandboxId))
    assert.equal((await provider.sandbox.getById(sandbox.sandboxId)).sandboxId, sandbox.sandboxId)
    assert.equal((await sandbox.getInfo()).id, sandbox.sandboxId)
  } finally {
    await provider.sandbox.destroy(sandbox.sandboxId)
  }
  assert.equal(await provider.sandbox.getById(sandbox.sandboxId), null)
})
