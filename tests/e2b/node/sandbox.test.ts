/** The life of a sandbox: made, found, timed, ended. */

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { check, sdk, until } from './bed.js'

const { Sandbox } = sdk

check('is made, found and killed', async ({ make }) => {
  const sandbox = await make({ metadata: { who: 'me', 'odd key': 'ä &=%' }, envs: { COLOUR: 'green' } })
  const info = await sandbox.getInfo()
  assert.equal(info.sandboxId, sandbox.sandboxId)
  assert.deepEqual(info.metadata, { who: 'me', 'odd key': 'ä &=%' })
  assert.equal(info.state, 'running')
  assert.ok(info.endAt > info.startedAt)
  assert.equal((await Sandbox.getInfo(sandbox.sandboxId)).sandboxId, sandbox.sandboxId)
  assert.equal((await Sandbox.getFullInfo(sandbox.sandboxId)).sandboxId, sandbox.sandboxId)
  assert.equal((await sandbox.commands.run('echo $COLOUR')).stdout, 'green\n')
  assert.equal(await sandbox.isRunning(), true)
  await sandbox.kill()
  assert.equal(await sandbox.isRunning(), false)
  assert.equal(await Sandbox.kill(sandbox.sandboxId), false)
  await assert.rejects(Sandbox.connect(sandbox.sandboxId), sdk.NotFoundError)
})

check('a dead one says so', async ({ make }) => {
  const sandbox = await make()
  assert.equal(await Sandbox.kill(sandbox.sandboxId), true)
  await assert.rejects(sandbox.commands.run('true'), /not running|not found/i)
  await assert.rejects(sandbox.files.read('/etc/hostname'), sdk.SandboxError)
})

check('a wrong key is refused', async () => {
  await assert.rejects(Sandbox.create({ apiKey: `e2b_${'0'.repeat(40)}` }), sdk.AuthenticationError)
})

check('an unknown template is not found', async () => {
  await assert.rejects(Sandbox.create('no-such-template'), /no-such-template/)
})

check('the timeout moves both ways', async ({ make }) => {
  const sandbox = await make({ timeoutMs: 60_000 })
  const before = await sandbox.getInfo()
  await sandbox.setTimeout(600_000)
  const longer = await sandbox.getInfo()
  assert.ok(longer.endAt.getTime() > before.endAt.getTime() + 500_000)
  await Sandbox.setTimeout(sandbox.sandboxId, 30_000)
  assert.ok((await sandbox.getInfo()).endAt < before.endAt)
})

check('ends by itself', async ({ make }) => {
  const sandbox = await make({ timeoutMs: 1000 })
  await until('it ends', async () => !(await sandbox.isRunning()))
})

check('connects again', async ({ make }) => {
  const sandbox = await make()
  await sandbox.files.write('kept', 'here')
  const same = await Sandbox.connect(sandbox.sandboxId)
  assert.equal(await same.files.read('kept'), 'here')
  assert.equal(await (await sandbox.connect({ timeoutMs: 300_000 })).isRunning(), true)
})

check('lists by metadata in pages', async ({ make }) => {
  const mark = randomUUID()
  const made = new Set<string>()
  for (const n of '012') made.add((await make({ metadata: { mark, n } })).sandboxId)
  const pages = Sandbox.list({ query: { metadata: { mark } }, limit: 2 })
  const sizes = []
  const found = new Set<string>()
  while (pages.hasNext) {
    const page = await pages.nextItems()
    sizes.push(page.length)
    for (const one of page) found.add(one.sandboxId)
  }
  assert.deepEqual(sizes, [2, 1])
  assert.deepEqual(found, made)
  const only = await Sandbox.list({ query: { metadata: { mark, n: '1' }, state: ['running'] } }).nextItems()
  assert.deepEqual(only.map((one: any) => one.metadata.n), ['1'])
})

check('measures', async ({ make }) => {
  const sandbox = await make()
  let measured: any[] = []
  await until('metrics come', async () => (measured = await sandbox.getMetrics()).length)
  assert.ok(measured[0].memTotal > measured[0].memUsed)
  assert.ok((await Sandbox.getMetrics(sandbox.sandboxId)).length)
})

check('what listens is reached by its host', async ({ make }) => {
  const sandbox = await make()
  const host = sandbox.getHost(3000)
  assert.ok(host.startsWith(`3000-${sandbox.sandboxId}.`))
  const serve = 'cd /tmp; echo hello > page; python3 -m http.server 3000 >/dev/null 2>&1 &'
  const listens = 'curl --silent --retry 20 --retry-connrefused localhost:3000/page'
  assert.equal((await sandbox.commands.run(`${serve}\n${listens}`)).stdout, 'hello\n')
  const scheme = process.env.E2B_API_URL ? 'http' : 'https'
  assert.equal(await (await fetch(`${scheme}://${host}/page`)).text(), 'hello\n')
  assert.match(sandbox.sandboxId, /^[a-z0-9]+$/)
  assert.match(sandbox.getMcpUrl(), /\/mcp$/)
})

check('a client of its own', async ({ skip }) => {
  if (!sdk.E2B) skip('this version has no E2B')
  const client = new sdk.E2B({ apiKey: process.env.E2B_API_KEY })
  const sandbox = await client.Sandbox.create()
  await sandbox.kill()
})

check('mcp is refused', async () => {
  await assert.rejects(Sandbox.create({ mcp: { duckduckgo: {} } }), sdk.SandboxError)
})

check('is made as older programs do', async ({ skip }) => {
  if (!Sandbox.betaCreate) skip('this version has no Sandbox.betaCreate')
  const sandbox = await Sandbox.betaCreate({ timeoutMs: 60_000, autoPause: true })
  await sandbox.kill()
})
